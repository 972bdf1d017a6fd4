"""Random kills of Snakemake and all its jobs; unlocked and run again, it ends as if nothing was."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from campaigns.outcome import Outcome
from campaigns.reference import Reference, digest
from campaigns.trial import end_session
from everything import EVERYTHING
from originals import write_originals
from project import Workflow, copy_project

TARGETS = ("all", "sweep")
LOST = 4
# What goes on for longer hangs.
LONGEST = 300.0
# Snakemake says of itself what it likes; these are no results.
BESIDE = (".records", "logs", "benchmarks")


def trials(reference: Reference, count: int, seed: int, part: int, parts: int) -> Iterator[Outcome]:
    """One process does them all: Snakemake runs two jobs at a time."""
    if part or not count:
        return
    # Always the same folder: its path is a parameter of some rules.
    folder, kept = reference.folder / "workflow", reference.folder / "finished"
    if not kept.exists():
        folder.mkdir()
        workflow = copy_project(folder)
        write_originals(folder / "data")
        workflow.configure("everything.yaml", EVERYTHING)
        done = _snakemake(workflow)
        assert done.returncode == 0, done.stdout[-3000:]
        folder.rename(kept)
    expected = _results(kept)
    for number in range(count):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(kept, folder, symlinks=True)
        found = _trial(Workflow(folder), expected, random.Random(f"{seed} {number}"))
        found.number = number
        yield found


def _snakemake(workflow: Workflow, *arguments: str) -> subprocess.CompletedProcess[str]:
    return workflow.snakemake(
        "--max-threads", "1", *arguments, *TARGETS, config=("everything.yaml",)
    )


def _results(folder: Path) -> dict[str, str]:
    files = (path for path in sorted((folder / "results").rglob("*")) if path.is_file())
    names = ((path, path.relative_to(folder)) for path in files)
    return {str(name): digest(path) for path, name in names if not {*BESIDE} & {*name.parts}}


def _trial(workflow: Workflow, expected: dict[str, str], rng: random.Random) -> Outcome:
    lost = rng.sample([path for path in sorted(expected) if "published" not in path], LOST)
    for name in lost:
        (workflow.folder / name).unlink()
    number = rng.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
    after = rng.uniform(1, 20)
    found = Outcome("snakemake", number.name, where=f"{after:.2f} s, without {', '.join(lost)}")
    said = workflow.folder / "snakemake.log"
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--max-threads", "1"]
    with said.open("w") as log:
        process = subprocess.Popen(
            [*command, *TARGETS, "--configfile", "everything.yaml"],
            cwd=workflow.folder,
            env=os.environ | {"PYTHONPATH": str(workflow.folder / "workflow")},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    began = time.monotonic()
    handle = os.pidfd_open(process.pid)
    late = bool(select.select([handle], [], [], after)[0])
    found.state = "late" if late else "killed"
    if not late:
        os.killpg(process.pid, number)
    if not select.select([handle], [], [], LONGEST)[0]:
        found.problems["hangs"] = f"it went on for {LONGEST:.0f} s"
        os.killpg(process.pid, signal.SIGKILL)
    os.close(handle)
    process.wait()
    found.seconds = time.monotonic() - began - after
    if survivors := end_session(process.pid, patience=60.0):
        found.problems["survivors"] = str(survivors)
    logs = [said, *(workflow.folder / "results").rglob("*.log")]
    for path in logs:
        text = path.read_text(errors="replace")
        if "Traceback (most recent" in text and "/flowquant/" in text:
            found.problems["traceback"] = f"{path.name}: {text[-200:]}"
    _again(workflow, expected, found, lost)
    return found


def _again(
    workflow: Workflow, expected: dict[str, str], found: Outcome, lost: Sequence[str]
) -> None:
    """Run to the end; what was lost before the kill is made again where a target needs it."""
    workflow.snakemake("--unlock", *TARGETS, config=("everything.yaml",))
    done = _snakemake(workflow, "--rerun-incomplete")
    if done.returncode:
        found.problems["again"] = done.stdout[-500:]
    results = _results(workflow.folder)
    missing = {path for path in lost if path not in results}
    held = expected.keys() - missing
    if differing := sorted(path for path in held if results.get(path) != expected[path]):
        found.problems["differing"] = ", ".join(differing)[:200]
    if left := [path for path in results if path not in expected]:
        found.problems["left for ever"] = ", ".join(left)[:200]
