"""Copies of the workflow: finished, with every stage run, fresh."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from originals import PRESETS, write_originals
from project import Workflow, copy_project

RUN = "results/everything"
# For as few samples as a class has.
METRICS: dict[str, Any] = {"metrics": {"is_splits": 1, "neighbours": 1}}
REFINED: dict[str, Any] = {
    "levels": "lloyd",
    "granularity": "row",
    "scope": "matrices",
    "levels_dtype": "float16",
    "float_dtype": "float16",
    "refine": {"steps": 20, "batch": 8},
}
# As little work as there can be for each stage, all of them in one run.
EVERYTHING: dict[str, Any] = {
    "run": "everything",
    "device": "cpu",
    "datasets": ["tiny_idx"],
    "bits": [2],
    "methods": {
        "refined": REFINED,
        "mixed": REFINED | {"budget": 8, "sensitivity": {"widths": [2, 4], "images": 8}},
    },
    "evaluation": {"extractor": "classifier"} | METRICS,
    "plot": {"formats": ["png"], "dpi": 40},
    "fidelity": {"samples": 2, "steps": 2},
    "theory": True,
    "packed": True,
    "sweep": {"variants": ["refined/2bit"], "evaluations": [2], "tolerances": [0.1]},
    "presets": PRESETS
    | {
        "tiny_idx": PRESETS["tiny_idx"] | {"classifier": {"epochs": 1, "batch": 4}},
        "imported": PRESETS["tiny_idx"]
        | {"checkpoint": f"{RUN}/models/tiny_idx_model.safetensors"},
    },
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The whole pipeline, run once on a tiny configuration."""
    workflow = copy_project(tmp_path_factory.mktemp("finished"))
    done = workflow.snakemake()
    assert done.returncode == 0, done.stdout[-5000:]
    return workflow


def others(mirror: Path) -> dict[str, Any]:
    """What changes for the stages that one dataset's run does not need."""
    weights = {
        "urls": [mirror.as_uri()],
        "sha256": hashlib.sha256(mirror.read_bytes()).hexdigest(),
    }
    return {
        "datasets": [*EVERYTHING["presets"], "digits"],
        "evaluation": {"extractor": "inception-v3-compat", "weights": weights} | METRICS,
    }


@pytest.fixture(scope="session")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """Every stage of the workflow but the benchmark, on the smallest inputs."""
    workflow = copy_project(tmp_path_factory.mktemp("everything"))
    write_originals(workflow.folder / "data")
    mirror = workflow.folder / "weights.pth"
    mirror.write_bytes(b"stand-in for Inception's weights")
    workflow.configure("everything.yaml", EVERYTHING)
    workflow.configure("others.yaml", others(mirror))
    downloads = [f"results/data/{name}.safetensors" for name in (*PRESETS, "digits")]
    downloads += ["results/data/inception-v3-compat.pth", "results/data/efficientnet-lite0.pth"]
    samples = [f"{RUN}/sampling/{name}/full/seed0.safetensors" for name in PRESETS]
    imports = ["check", f"{RUN}/models/imported_model.safetensors"]
    for targets, config in (
        (["all", "sweep"], ("everything.yaml",)),
        ([*downloads, *imports, *samples], ("everything.yaml", "others.yaml")),
    ):
        # Side by side, a thread for each: no stage has work for more.
        done = workflow.snakemake("--max-threads", "1", *targets, config=config)
        assert done.returncode == 0, done.stdout[-5000:]
    return workflow


@pytest.fixture
def fresh(tmp_path: Path) -> Workflow:
    """A copy in which nothing has run."""
    return copy_project(tmp_path)
