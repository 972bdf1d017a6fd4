"""Who computed on which device when: read from what jobs noted, counted, drawn."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from flowquant.report.timeline import busy, lanes, read_timeline, shared
from flowquant.runtime.errors import UserError
from flowquant.stages.plot_timeline import plot_timeline

NOON = 1.8e9


def job(
    process: int,
    *devices: str,
    at: tuple[float, float, float | None],
    run: int = 7,
    stage: str = "sample",
) -> list[dict[str, Any]]:
    """What a job notes: started, claimed and ended ``at``."""
    started, claimed, ended = at
    who = {"run": run, "process": process}
    doing = {"stage": stage, "output": f"{process}.json", "devices": devices, "kind": "H100"}
    lines = [who | doing | {"started": NOON + started, "claimed": NOON + claimed}]
    return lines if ended is None else [*lines, who | {"ended": NOON + ended}]


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """Two GPUs: one job on both, then one on each, of which one is killed; an earlier run."""
    path = tmp_path / "devices.jsonl"
    lines = [
        *job(1, "cuda:0", at=(-900, -890, -880), run=6),
        *job(1, "cuda:0", "cuda:1", at=(0, 2, 6), stage="train"),
        *job(2, "cuda:1", at=(7, 8, 10)),
        *job(3, "cuda:0", at=(7, 9, None)),
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_last_run_is_read(noted: Path) -> None:
    spans = read_timeline(noted)
    assert [(s.device, s.stage, s.started, s.claimed, s.ended) for s in spans] == [
        ("cuda:0", "train", 0, 2, 6),
        ("cuda:0", "sample", 7, 9, None),
        ("cuda:1", "train", 0, 2, 6),
        ("cuda:1", "sample", 7, 8, 10),
    ]
    assert busy(spans[2:], 10) == pytest.approx(0.6)
    assert busy(spans[2:], 10, whole=True) == pytest.approx(0.9)
    assert busy(spans[:2], 10) == pytest.approx(0.4)
    assert (shared(spans[:2]), shared(spans[2:])) == (0, 0)


def test_two_at_once_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "devices.jsonl"
    at = [(0, 0, 4), (0, 3, 6), (0, 6, 7)]
    lines = [line for number, when in enumerate(at) for line in job(number, "cuda:0", at=when)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    spans = read_timeline(path)
    assert shared(spans) == 1
    assert [[span.output for span in row] for row in lanes(spans)] == [
        ["0.json", "2.json"],
        ["1.json"],
    ]
    assert busy(spans, 7) == pytest.approx(1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "found no job; expected at least one"),
        ('{"run": 1, "proc', "line 1: found "),
        ('{"run": 1, "process": 2, "ended": "noon"}', "line 1: found 'noon' for `ended`"),
        ('{"run": 1, "process": 2}', "line 1: found no `stage`"),
    ],
)
def test_what_nobody_noted(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "devices.jsonl"
    path.write_text(line)
    with pytest.raises(UserError, match=message):
        read_timeline(path)


def test_it_is_drawn(noted: Path, tmp_path: Path) -> None:
    data, figure = tmp_path / "timeline.csv", tmp_path / "timeline.png"
    plot_timeline(devices=noted, data=data, outputs=(figure,), dpi=50)
    assert figure.stat().st_size > 1000
    with data.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["ended"] for row in rows] == ["6.0", "", "6.0", "10.0"]
    assert list(rows[0]) == ["device", "kind", "stage", "output", "started", "claimed", "ended"]
