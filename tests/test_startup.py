"""A stage imports only what it needs; `workflow/test_first_step.py` holds the rest to a measure."""

import json
import os
import subprocess
import sys

import pytest

from flowquant.runtime.digest import PACKAGE, module_of
from project import ROOT, STAGES

# What takes long to import, and which stages may: all others do without, or ask for it late.
ALLOWED: dict[str, set[str]] = {
    "torch": set(STAGES)
    - {"allocate", "collect", "compare", "extractor_weights", "inspect", "theory"}
    - {"plot_allocation", "plot_curves", "plot_fidelity", "plot_metrics", "plot_timeline"}
    - {"report_overview", "report_table"},
    "matplotlib": {stage for stage in STAGES if stage.startswith("plot_")} | {"theory"},
    "torchvision": {
        "benchmark",
        "check",
        "classifier",
        "real_features",
        "score",
        "sweep",
    },
    "torch_fidelity": {"benchmark", "real_features", "score", "sweep"},
    "ot": set(),
    "scipy": set(),
    "sklearn": set(),
    "skimage": set(),
    "torchdiffeq": set(),
}
# torchvision and torch-fidelity bring PyTorch's compiler and Triton with them.
ALLOWED["torch._dynamo"] = ALLOWED["triton"] = ALLOWED["torchvision"]
FORKING = """
import importlib, json, os, sys
import numpy

for preloaded, stages in json.loads(sys.argv[1]):
    if preloaded:
        importlib.import_module(preloaded)
    for stage, module in stages.items():
        if (child := os.fork()) == 0:
            importlib.import_module(f"flowquant.{module}")
            found = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
            print(json.dumps([stage, found]), flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, stage
"""


def python(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_no_stage_imports_what_it_does_not_need() -> None:
    # Children of processes that have imported what they share: what it costs is paid once.
    groups = {"": set(STAGES) - ALLOWED["torch"]}
    groups["torchvision"] = ALLOWED["torchvision"]
    groups["torch"] = set(STAGES) - groups[""] - groups["torchvision"]
    order = json.dumps(
        [
            [name, {stage: module_of(stage) for stage in sorted(groups[name])}]
            for name in ("", "torch", "torchvision")
        ]
    )
    lines = python("-c", FORKING, order, json.dumps(list(ALLOWED))).splitlines()
    found = dict(json.loads(line) for line in lines)
    assert set(found) == set(STAGES)
    for stage, imported in found.items():
        needless = {name for name in imported if stage not in ALLOWED[name]}
        assert not needless, stage


@pytest.mark.parametrize("module", ["flowquant", "flowquant.__main__"])
def test_the_package_is_imported_without_others(module: str) -> None:
    """And so at once: it and Python's own library are all that it loads."""
    found = f"import sys; had = set(sys.modules); import {module}; print(*set(sys.modules) - had)"
    loaded = {name.partition(".")[0] for name in python("-c", found).split()}
    assert loaded <= {"flowquant", *sys.stdlib_module_names}


@pytest.mark.parametrize("family", ["transformer", "unet"])
def test_the_forms_of_a_network_need_no_compiler(family: str) -> None:
    """Every stage that reads weights asks for them; PyTorch's own initialisation would load it."""
    code = (
        "import sys; from dataclasses import replace; from tiny import TINY_MODEL, TINY_NETWORKS\n"
        "from flowquant.models.model import build_network, empty_network\n"
        f"model = replace(TINY_MODEL, network=TINY_NETWORKS['{family}'])\n"
        "empty = empty_network(model).state_dict()\n"
        "assert not {'torch._dynamo', 'torch.fx.experimental.symbolic_shapes'} & set(sys.modules)\n"
        "real = build_network(model).state_dict()\n"
        "assert [(n, t.shape, t.dtype) for n, t in empty.items()]"
        " == [(n, t.shape, t.dtype) for n, t in real.items()]"
    )
    python("-c", f"import sys; sys.path.append({str(ROOT / 'tests')!r})\n{code}")
