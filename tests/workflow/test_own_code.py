"""Images, a network class and levels of the user's own through the workflow."""

import re
import subprocess
import sys
from pathlib import Path

from flowquant.runtime.tensors import read_metadata, read_tensors
from project import ROOT, TINY, Workflow

PACKED = "results/tiny/quantized_models/digits/ot/2bit.safetensors"


def block(page: str, language: str) -> str:
    """The first example of a page of docs/howto in this language."""
    text = (ROOT / f"docs/howto/{page}.md").read_text(encoding="utf-8")
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


def test_images_become_quantized_models(fresh: Workflow) -> None:
    """The example, trained for an epoch."""
    subprocess.run([sys.executable, "-c", block("dataset", "python")], cwd=fresh.folder, check=True)
    (fresh.folder / "my_run.yaml").write_text(block("dataset", "yaml"))
    short = {"training": {"epochs": 1, "warmup_epochs": 0}, "sampling": {"steps": 2}}
    fresh.configure("short.yaml", {"device": "cpu", "presets": {"shapes": short}})
    sample = "results/shapes/sampling/shapes/lloyd/2bit/seed0.safetensors"
    done = fresh.snakemake("check", "quantized", sample, config=("my_run.yaml", "short.yaml"))
    assert done.returncode == 0, done.stdout[-5000:]
    tensors, _ = read_tensors(fresh.folder / sample)
    assert tensors["images"].shape == (200, 3, 16, 16)
    data = read_metadata(fresh.folder / "results/data/shapes.safetensors")
    assert data["names"] == ["ellipse", "rectangle"]


def test_an_edit_makes_the_jobs_stale_that_run_it_and_no_others(fresh: Workflow) -> None:
    for page, name in (("levels", "my_levels.py"), ("network", "my_net.py")):
        (fresh.folder / name).write_text(block(page, "python"))
    network = {
        "family": "custom",
        "class": "my_net.py:MyNet",
        "arguments": {"width": 8},
        "call": "t, x, labels=y",
        "null_class": 10,
    }
    digits = TINY["presets"]["digits"] | {"network": network}
    methods = TINY["methods"] | {"own": {"levels": "my_levels.py:ternary"}}
    fresh.configure("own.yaml", TINY | {"methods": methods, "presets": {"digits": digits}})
    sample = "results/tiny/sampling/digits/own/2bit/seed0.safetensors"
    targets, base = ("quantized", sample), ("own.yaml",)
    done = fresh.snakemake(*targets, config=base)
    assert done.returncode == 0, done.stdout[-5000:]
    assert fresh.jobs(base=base, targets=targets) == {}
    edit(fresh.folder / "my_levels.py")
    stale = {"quantize": 1, "quantized": 1, "sample": 1}
    assert fresh.jobs(base=base, targets=targets) == stale
    done = fresh.snakemake(*targets, config=base)
    assert done.returncode == 0, done.stdout[-5000:]
    edit(fresh.folder / "my_net.py")
    stale = {"train": 1, "quantize": 3, "quantized": 1, "sample": 1}
    assert fresh.jobs(base=base, targets=targets) == stale
    # A file that names a class has it run nowhere else, and looking into it runs nothing.
    assert fresh.stage("inspect", PACKED).returncode == 0
    refused = fresh.stage("export", PACKED, "--output", "plain.safetensors")
    assert refused.returncode == 1
    assert "'my_net.py:MyNet', which is not allowed" in refused.stdout


def edit(path: Path) -> None:
    path.write_text(path.read_text() + "\n# Another line.\n")
