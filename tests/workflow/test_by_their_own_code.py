"""A peer through the whole workflow: asked for beside methods, sampled, scored and tabled as they
are."""

from __future__ import annotations

import csv
import json
import shutil
from importlib.util import find_spec

import pytest

from flowquant.models.model import read_model
from project import ROOT, Workflow

FAKE = {"peers": {"fake": {"peer": "mine.py", "bits": [4, 2], "group": 8}}}
RUN = "results/tiny"
PATH = f"{RUN}/quantized_models/digits/fake"


@pytest.fixture
def mine(fresh: Workflow) -> Workflow:
    """A copy with a peer of its own."""
    shutil.copy(ROOT / "tests/fake_peer.py", fresh.folder / "mine.py")
    fresh.configure("fake.yaml", FAKE)
    return fresh


def test_a_peer_goes_through_the_whole_workflow(mine: Workflow) -> None:
    config = ("tiny.yaml", "fake.yaml")
    without, jobs = mine.jobs(), mine.jobs("fake.yaml")
    assert jobs.pop("quantize_peer") == 2
    more = {rule: count - without[rule] for rule, count in jobs.items()}
    assert {rule: n for rule, n in more.items() if n} == dict.fromkeys(("sample", "score"), 2)
    done = mine.snakemake(config=config)
    assert done.returncode == 0, done.stdout[-5000:]
    report = json.loads((mine.folder / f"{PATH}/2bit.json").read_text())
    with (mine.folder / RUN / "summary.csv").open(newline="") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    # Bits, and two floats for each group of eight.
    matrix = report["tensors"]["transformer.layers.0.linear1.weight"]
    assert 8 * matrix["bytes"] / matrix["values"] == 2 + 2 * 32 / 8
    for variant in ("fake/2bit", "fake/4bit"):
        assert rows[variant]["method"] == "fake"
        assert "counted_bytes" in rows[variant]["caveats"]
        assert float(rows[variant]["fid"]) > 0
        assert float(rows[variant]["accuracy"]) >= 0
    assert rows["fake/2bit"]["bytes"] == str(report["bytes"])
    assert "counted_bytes" not in rows["ot/2bit"]["caveats"]
    with (mine.folder / RUN / "comparisons.csv").open(newline="") as file:
        pairs = {(row["variant"], row["other"]) for row in csv.DictReader(file)}
    # The only ones here at no more bits.
    assert pairs & {(ours, "fake/4bit") for ours in ("ot/2bit", "uniform/2bit")}
    assert ("fake/2bit", "full") in pairs
    weights, _ = read_model(mine.folder / f"{PATH}/2bit.safetensors")
    assert all(len(row.unique()) <= 4 for row in weights["out_proj.weight"].reshape(-1, 8))
    # Another program: what it quantizes, and what comes after, nothing else.
    assert mine.jobs("fake.yaml", targets=("quantized", "samples")) == {}
    program = mine.folder / "mine.py"
    program.write_text(program.read_text() + "\n# Another line.\n")
    stale = mine.jobs("fake.yaml", targets=("quantized", "samples"))
    assert stale == {"quantize_peer": 2, "quantized": 1, "sample": 2, "samples": 1}


def test_a_peer_that_is_not_installed_is_found_before_anything_is_trained(mine: Workflow) -> None:
    if find_spec("hqq") is not None:
        pytest.skip("hqq is installed")
    mine.configure("theirs.yaml", {"peers": {"hqq": {"peer": "hqq", "bits": [4]}}})
    done = mine.snakemake("check", config=("tiny.yaml", "theirs.yaml"))
    assert done.returncode != 0
    message = "peer `hqq`: found No module named 'hqq'; expected its package to be installed. "
    assert (
        message + "Install the peers, `pip install -r envs/requirements-peers.txt`" in done.stdout
    )
    assert "Traceback" not in done.stdout
