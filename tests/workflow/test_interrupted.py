"""A run that is interrupted or killed: how it ends, what it leaves, how the next one begins."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from project import Done, Workflow

# Trained on when the others have ended, but for it.
LONG = {"presets": {"digits": {"training": {"epochs": 100000}}}}
CHECKPOINT = "results/tiny/checkpoints/digits.pt"
LOG = "results/tiny/logs/train/digits.log"
RUN = ("--cores", "2", "models", "--configfile", "tiny.yaml", "long.yaml")


def processes(folder: Path) -> list[psutil.Process]:
    """Whatever works in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.1)


def said(fresh: Workflow) -> str:
    log = fresh.folder / LOG
    return log.read_text(encoding="utf-8") if log.exists() else ""


@contextmanager
def training(fresh: Workflow) -> Iterator[subprocess.Popen[str]]:
    """Snakemake in a session of its own, as a terminal has one, while it trains."""
    fresh.configure("long.yaml", LONG)
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *RUN],
        cwd=fresh.folder,
        env=os.environ | {"PYTHONPATH": "workflow"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        wait_for(lambda: "step" in said(fresh))
        yield process
    finally:
        for left in processes(fresh.folder):
            left.kill()
        process.communicate()


def session(fresh: Workflow) -> Done:
    """What `make quickstart` starts, without jobs."""
    return subprocess.run(
        [sys.executable, "-m", "flowquant.config.session", "--dry-run", "--quiet", *RUN],
        cwd=fresh.folder,
        env=os.environ | {"PYTHONPATH": "workflow"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("whom", ["a terminal's processes", "Snakemake alone"])
def test_an_interrupted_run(fresh: Workflow, whom: str) -> None:
    with training(fresh) as process:
        tell = os.killpg if whom == "a terminal's processes" else os.kill
        tell(process.pid, signal.SIGINT)
        screen, _ = process.communicate(timeout=120)
        assert processes(fresh.folder) == []
    # As a shell sees it: 130.
    assert process.returncode == -signal.SIGINT
    assert screen.endswith("\ninterrupted; the same command goes on from here\n")
    assert "Traceback" not in screen + said(fresh)
    last = said(fresh).rstrip().rpartition("\n")[2]
    assert last == f"interrupted: train: kept the state in {CHECKPOINT}"
    assert (fresh.folder / CHECKPOINT).exists()
    for kind in ("locks", "owners"):
        assert not list((fresh.folder / ".snakemake" / kind).glob("*"))


def test_a_killed_run(fresh: Workflow) -> None:
    """Its jobs end, and the lock it leaves is removed; not while it lives."""
    with training(fresh) as process:
        refused = session(fresh)
        assert refused.returncode == 1
        assert f"error: this folder is locked by process {process.pid} on" in refused.stdout
        assert refused.stdout.count("\n") == 1
        process.kill()
        wait_for(lambda: processes(fresh.folder) == [])
    assert f"kept the state in {CHECKPOINT}" in said(fresh)
    begun = session(fresh)
    assert begun.returncode == 0, begun.stdout
    assert begun.stdout.startswith(f"unlocked this folder: process {process.pid} on ")


def test_a_failure_shows_its_cause_and_nothing_else(fresh: Workflow) -> None:
    fresh.configure("fast.yaml", {"presets": {"digits": {"training": {"learning_rate": 1e9}}}})
    # As `make quickstart` has it.
    quiet = ("--quiet", "host", "reason")
    done = fresh.snakemake("models", *quiet, config=("tiny.yaml", "fast.yaml"))
    assert done.returncode == 1
    _, _, rest = done.stdout.partition("\nfailed: job ")
    lines = rest.splitlines()
    assert lines[0].endswith(" (train), for results/tiny/models/digits_model.safetensors")
    assert lines[1] == f"the end of {LOG}:"
    assert lines[2].startswith("    error: training step 1: found a loss of ")
    assert lines[3].startswith("Exiting because a job execution failed.")
    assert "CalledProcessError" not in done.stdout
    assert "Error in rule" not in done.stdout
