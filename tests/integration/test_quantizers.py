"""A refined and a mixed method on the digits, from the configuration to the figures' data."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONFIG = {
    "run": "test",
    "device": "cpu",
    "datasets": ["digits"],
    "bits": [2],
    "methods": {
        "ot": {"levels": "equal_mass"},
        "mixed": {"levels": "lloyd", "scope": "linear", "budget": 6},
        "refined": {
            "levels": "lloyd",
            "granularity": "row",
            "scope": "linear",
            "levels_dtype": "float16",
            "float_dtype": "float16",
            "refine": {"steps": 60, "batch": 32},
        },
    },
    "evaluation": {"extractor": "classifier", "floor": False, "metrics": {"kid_subset_size": 10}},
    "plot": {"formats": ["png"], "dpi": 40},
    "fidelity": {"samples": 8, "steps": 5},
    "theory": True,
    "packed": True,
    "presets": {
        "digits": {
            "network": {"width": 32, "heads": 4, "layers": 2, "feedforward": 64},
            "training": {"epochs": 4, "stop_after": 4},
            "sampling": {"steps": 5, "per_class": 5},
            "classifier": {"epochs": 1},
        }
    },
}


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A copy of the workflow, so that the test writes nowhere else."""
    for name in ("Snakefile", "workflow", "config", "profiles", "envs"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    shutil.copytree(ROOT / "results" / "published", tmp_path / "results" / "published")
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(CONFIG))
    return tmp_path


def test_refined_and_mixed_methods(workplace: Path) -> None:
    targets = [
        "results/test/quantized_models/digits/refined/2bit.safetensors",
        "results/test/fidelity/digits/refined/2bit/seed0.json",
        "results/test/plots/digits_mixed_6bit_allocation.png",
        "results/test/distances/digits/mixed/6bit.json",
    ]
    command = [sys.executable, "-m", "snakemake", *targets, "--cores", "2"]
    done = subprocess.run(
        [*command, "--configfile", "test.yaml", "--quiet", "all"],
        cwd=workplace,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    results = workplace / "results" / "test"
    refined = json.loads((results / "quantized_models/digits/refined/2bit.json").read_text())
    assert refined["velocity_error"]["after"] < refined["velocity_error"]["before"]
    allocation = json.loads((results / "allocations/digits/mixed/6bit.json").read_text())
    assert allocation["effective_bits"] <= 6
    fidelity = json.loads((results / "fidelity/digits/refined/2bit/seed0.json").read_text())
    assert 0 < fidelity["ssim"] <= 1
