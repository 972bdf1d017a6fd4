"""Jobs on the GPUs of one machine, here stand-ins (tests/gpus): found, shared, never two on one."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from flowquant.report.timeline import read_timeline, shared
from project import ROOT, TINY, Workflow

RUN = "results/tiny"
NOTED = f"{RUN}/logs/devices.jsonl"
SAMPLES = [f"{RUN}/sampling/digits/full/seed{seed}.safetensors" for seed in range(3)]


def configuration(**training: Any) -> dict[str, Any]:
    digits = TINY["presets"]["digits"]
    preset = digits | {"training": digits["training"] | training}
    return TINY | {"device": "auto", "seeds": [0, 1, 2], "presets": {"digits": preset}}


@pytest.fixture
def snakemake(fresh: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workflow:
    """The workflow on a machine of three GPUs, with claims of its own."""
    monkeypatch.setenv("GPUS", "3")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("TMPDIR", "MEETING"):
        place = tmp_path / name
        place.mkdir()
        monkeypatch.setenv(name, str(place))
    monkeypatch.setattr("project.STOPWATCH", ROOT / "tests" / "gpus")
    return fresh


def test_jobs_share_all_gpus_and_none_has_two(snakemake: Workflow) -> None:
    snakemake.configure("tiny.yaml", configuration(devices=2))
    # A core for each: what must not wait for each other waits for GPUs alone.
    done = snakemake.snakemake(
        *(*SAMPLES, f"{RUN}/classifiers/digits.safetensors"),
        *("--cores", "8", "--max-threads", "1"),
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert re.search(r"^Provided resources: .*\bgpu=\D*3\b", done.stdout, re.MULTILINE), (
        done.stdout[:5000]
    )
    spans = read_timeline(snakemake.folder / NOTED)
    devices = {span.device: [s for s in spans if s.device == span.device] for span in spans}
    assert sorted(devices) == ["cuda:0", "cuda:1", "cuda:2"]
    assert not any(map(shared, devices.values()))
    # They did meet: two GPUs for one and one for the other, then one for each of three.
    assert sum(span.stage == "train" for span in spans) == 2
    assert {span.device for span in spans if span.stage == "sample"} == set(devices)

    drawn = snakemake.snakemake("timeline")
    assert drawn.returncode == 0, drawn.stdout[-5000:]
    assert (snakemake.folder / f"{RUN}/plots/timeline.png").stat().st_size > 1000
    with (snakemake.folder / f"{RUN}/timeline.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["stage"] for row in rows] == [span.stage for span in spans]
    assert "Nothing to be done" in snakemake.snakemake("timeline").stdout


def test_more_devices_than_there_are(snakemake: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    snakemake.configure("tiny.yaml", configuration(devices=4))
    done = snakemake.snakemake("--dry-run")
    assert done.returncode == 1
    message = "key `presets.digits.training.devices`: found 4; expected at most 2, the GPUs of this"
    assert message in done.stdout
    assert "Traceback" not in done.stdout
    # Sent to a cluster, whose nodes have GPUs of their own.
    assert snakemake.snakemake("--dry-run", "--jobs", "5").returncode == 0
