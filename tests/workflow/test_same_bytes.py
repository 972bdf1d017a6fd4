"""The same run makes the same files, to the byte, its jobs forked from a warm process or not.

Times are where reports have them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from everything import EVERYTHING, RUN
from project import Workflow, copy_project

# What holds how long something took.
TIMED = (
    *("models/tiny_idx_model.json", "models/*_training.jsonl"),
    *("quantized_models/**/*bit.json", "quantized_models/**/*_refinement.jsonl"),
)
# What Snakemake and stages say while they work, and whether the memory of the moment is enough.
ASIDE = ("logs/", "benchmarks/", "checks/")


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(part) for key, part in value.items() if key != "seconds"}
    return [without_times(part) for part in value] if isinstance(value, list) else value


def content(folder: Path) -> dict[str, Any]:
    """What each file of a run holds: bytes, or JSON without times."""
    timed = {path for pattern in TIMED for path in folder.glob(pattern)}
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_file() and not name.startswith(ASIDE):
            found[name] = path.read_bytes()
            if path in timed:
                assert b'"seconds"' in found[name], name
                lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [found[name]]
                found[name] = [without_times(json.loads(line)) for line in lines]
    return found


def test_the_same_run_makes_the_same_files(everything: Workflow, tmp_path: Path) -> None:
    again = copy_project(tmp_path)
    shutil.copytree(everything.folder / "data", tmp_path / "data")
    again.configure("everything.yaml", EVERYTHING)
    done = again.snakemake("--max-threads", "1", "all", config=("everything.yaml",))
    assert done.returncode == 0, done.stdout[-5000:]
    # In forks of one process; and each from nothing, some by other tests.
    assert len(again.parents()) > 20
    assert len(set(again.parents())) == 1
    assert len(set(everything.parents())) > 20
    first, second = content(everything.folder / RUN), content(tmp_path / RUN)
    assert len(second) > 40
    differing = [name for name in second if second[name] != first[name]]
    assert not differing
