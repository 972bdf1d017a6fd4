"""GPUs that a process has to itself: claimed side by side, waited for, let go of."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowquant.runtime.digest import PACKAGE

Start = Callable[..., "Process"]
# Claims GPUs, says which, and holds them until it is told to end.
HOLDER = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from flowquant.runtime.claims import claim
for count in sys.argv[3].split(","):
    print(*claim(sys.argv[2].split(","), int(count)), flush=True)
sys.stdin.read()
"""
# Each of many at once: takes GPUs for a moment, and says so while it has them.
CROWD = """
import os, sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from flowquant.runtime.claims import claim
gpus = sys.argv[2].split(",")
own = claim(gpus, int(sys.argv[3]))
for index in own:
    os.close(os.open(f"{sys.argv[1]}/in-use-{gpus[index]}", os.O_CREAT | os.O_EXCL))
time.sleep(0.05)
for index in own:
    os.unlink(f"{sys.argv[1]}/in-use-{gpus[index]}")
"""


class Process:
    """One that claims GPUs."""

    def __init__(self, folder: Path, gpus: str, counts: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), gpus, counts],
            env={"PYTHONPATH": str(PACKAGE.parent)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def claimed(self) -> list[int]:
        """What it has claimed next, once it has."""
        assert self.process.stdout is not None
        return [int(word) for word in self.process.stdout.readline().split()]

    def says(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def end(self, kill: bool = False) -> None:
        if kill:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that claims ``counts`` of the GPUs, one number after another."""
    processes = []

    def started(counts: int | str, gpus: str = "GPU-a,GPU-b,GPU-c") -> Process:
        processes.append(Process(tmp_path, gpus, str(counts)))
        return processes[-1]

    yield started
    for process in processes:
        process.end(kill=True)


def test_side_by_side(start: Start) -> None:
    assert start(1).claimed() == [0]
    assert start(2).claimed() == [1, 2]


def test_a_process_keeps_what_it_has(start: Start) -> None:
    process = start("1,1,2")
    assert [process.claimed() for _ in range(3)] == [[0], [0], [0, 1]]


@pytest.mark.parametrize("kill", [False, True])
def test_waiting_until_a_holder_ends_or_is_killed(start: Start, kill: bool) -> None:
    one = start(1)
    assert one.claimed() == [0]
    two = start(1)
    assert two.claimed() == [1]
    waiting = start(2)
    said = waiting.says()
    assert said.startswith("waiting for a GPU: process ")
    numbers = {str(one.process.pid), str(two.process.pid)}
    assert numbers & set(said.replace(",", "").split())
    # It holds nothing meanwhile: the third GPU is free for others.
    third = start(1)
    assert third.claimed() == [2]
    third.end()
    two.end(kill)
    assert waiting.claimed() == [1, 2]


def test_without_a_choice_there_is_no_waiting(start: Start) -> None:
    whole, seen = start(3), start(1, gpus="GPU-b")
    assert whole.claimed() == [0, 1, 2]
    assert seen.claimed() == [0]
    assert start(3).claimed() == [0, 1, 2]


def test_part_of_the_gpus_under_other_numbers(start: Start) -> None:
    # As with CUDA_VISIBLE_DEVICES=2,1.
    assert start(1, gpus="GPU-c,GPU-b").claimed() == [0]
    assert start(2).claimed() == [0, 1]
    one = start(1, gpus="MIG-1")
    assert one.claimed() == [0]


def test_a_crowd_of_jobs_of_one_and_of_several_devices(tmp_path: Path) -> None:
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(tmp_path), "GPU-a,GPU-b,GPU-c,GPU-d", str(count)],
            env={"PYTHONPATH": str(PACKAGE.parent)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for count in (1, 3, 1, 2, 3, 1, 2, 1, 3, 1)
    ]
    for process in crowd:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    assert not list(tmp_path.glob("in-use-*"))


def test_no_place_for_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowquant.runtime import claims

    (tmp_path / "file").touch()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    monkeypatch.setattr(claims, "_held", {})
    found = claims.claim(["GPU-a", "GPU-b", "GPU-c"], 2)
    assert len(set(found)) == 2
    assert set(found) <= set(range(3))
