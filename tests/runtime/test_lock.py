"""Whose Snakemake's lock is: gone, at work, on another machine, unknown."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from children import Process
from flowquant.runtime import lock
from flowquant.runtime.digest import PACKAGE

OWNER = """
import signal
from pathlib import Path
from flowquant.runtime.lock import claim

folder = Path(".snakemake/locks")
folder.mkdir(parents=True)
names = [folder / f"0.{kind}.lock" for kind in ("input", "output")]
for name in names:
    name.write_text("results/x")
claim(str(name.resolve()) for name in names)
print("locked", flush=True)
signal.pause()
"""


@pytest.fixture
def owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """A process that has locked the working folder as a run of Snakemake does."""
    monkeypatch.chdir(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    command = [sys.executable, "-c", OWNER]
    with Process(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def locks() -> list[str]:
    return sorted(path.name for path in Path(".snakemake/locks").iterdir())


BOTH = ["0.input.lock", "0.output.lock"]


def test_a_lock_whose_owner_is_gone_is_removed(
    owner: Process, capsys: pytest.CaptureFixture[str]
) -> None:
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert lock.release() is None
    assert locks() == []
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(f"unlocked this folder: process {owner.pid} on ")
    assert lock.release() is None
    assert capsys.readouterr().err == ""


def test_a_lock_whose_owner_lives_is_left_alone(owner: Process) -> None:
    problem = lock.release()
    assert problem is not None
    assert f"by process {owner.pid} on " in problem
    assert "which is at work" in problem
    assert locks() == BOTH


def test_another_machine_is_not_judged_from_here(owner: Process) -> None:
    owner.kill()
    owner.wait()
    (claim,) = Path(".snakemake/owners").iterdir()
    claim.write_text(json.dumps(json.loads(claim.read_text()) | {"host": "elsewhere"}))
    problem = lock.release()
    assert problem is not None
    assert f"by process {owner.pid} on elsewhere, another machine" in problem
    assert "snakemake --unlock" in problem
    assert locks() == BOTH


def test_a_lock_that_nobody_claims_is_left_alone(owner: Process) -> None:
    """Whoever took it later took it in files of the same names."""
    owner.kill()
    owner.wait()
    path = Path(".snakemake/locks/0.input.lock")
    path.rename("former")
    path.write_text("results/y")
    problem = lock.release()
    assert problem is not None
    assert "not known by whom" in problem
    assert "snakemake --unlock" in problem
    assert locks() == BOTH[:1]


def test_no_lock_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert lock.release() is None
    lock.claim([])
    assert list(tmp_path.iterdir()) == []
