"""A job that a warm process runs is as one of its own; where it could not be, it is run afresh."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from children import Process
from flowquant.runtime.client import ADDRESS
from flowquant.runtime.digest import PACKAGE
from flowquant.runtime.interrupt import FOR
from project import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's sockets")
# A client whose other thread takes a signal: the call that waits goes on, as if it had come just
# before.
UNSEEN = """
import signal, sys, threading
from flowquant.runtime.client import main

def take() -> None:
    sys.stdin.readline()
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

threading.Thread(target=take, daemon=True).start()
main()
"""


@dataclass
class Warm:
    """A warm process, whoever started it, and where both work."""

    number: int
    starter: Process
    folder: Path
    environment: dict[str, str]

    def begin(self, *words: str, **changes: str) -> Process:
        """Start a job, as a rule's command does."""
        package = Path(self.environment["PYTHONPATH"].partition(os.pathsep)[0])
        return self.by([str(package / "flowquant/runtime/client.py")], *words, **changes)

    def by(self, client: Sequence[str], *words: str, **changes: str) -> Process:
        """Start a job by a program of the test."""
        return Process(
            [sys.executable, *client, "warm_jobs", *words],
            cwd=self.folder,
            env=self.environment | {FOR: str(os.getpid())} | changes,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            text=True,
        )

    def job(self, *words: str, **changes: str) -> dict[str, Any]:
        """What a job says, of itself too."""
        out, _ = self.begin(*words, **changes).communicate("input", timeout=120)
        said: dict[str, Any] = json.loads(out)
        return said

    def at_rest(self) -> bool:
        """Whether it holds its three and the socket where it is asked, and nothing of a job."""
        return len(list(Path(f"/proc/{self.number}/fd").iterdir())) == 4


@contextmanager
def start(folder: Path, package: Path = PACKAGE.parent, wish: str = "") -> Iterator[Warm]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(package), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
        ADDRESS: wish,
    }
    with Process(
        [sys.executable, "-m", "warm_jobs", "start"],
        cwd=folder,
        env=environment,
        stdin=PIPE,
        stdout=PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        number, address = process.stdout.readline().strip(), process.stdout.readline().strip()
        own = environment | {ADDRESS: address}
        yield Warm(int(number) if number != "None" else 0, process, folder, own)
        process.kill()


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Warm]:
    with start(tmp_path) as found:
        yield found


def lives(number: int) -> bool:
    try:
        return b") Z " not in Path(f"/proc/{number}/stat").read_bytes()
    except OSError:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def at_work(process: Process) -> dict[str, Any]:
    """What a job that waits says of itself."""
    assert process.stdout is not None
    said: dict[str, Any] = json.loads(process.stdout.readline())
    return said


def test_a_job_has_what_a_process_of_its_own_has(warm: Warm) -> None:
    own = {"CUDA_VISIBLE_DEVICES": "3", "FLOWQUANT_CLASSES": "a:B\nc:D", "TMPDIR": "/somewhere"}
    process = warm.begin("a b", "*", "ü\udc80", **own)
    out, err = process.communicate("input", timeout=120)
    assert (process.returncode, err) == (0, "to stderr\n")
    assert json.loads(out) == {
        "served": True,
        "parent": warm.number,
        "words": ["a b", "*", "ü\udc80"],
        "folder": str(warm.folder),
        "environment": own | {"OTHER": None},
        "said": "input",
    }


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("exit", "0"), 0, ""),
        (("exit", "3"), 3, ""),
        (("error",), 1, "error: of the user"),
        (("raise",), 1, "RuntimeError: of ours"),
        (("kill",), -signal.SIGKILL, ""),
    ],
)
def test_a_job_ends_as_a_process_of_its_own(
    warm: Warm, words: tuple[str, ...], status: int, said: str
) -> None:
    process = warm.begin(*words)
    _, err = process.communicate(timeout=120)
    assert process.returncode == status
    assert err.rstrip().rpartition("\n")[2] == said
    assert warm.job("say")["served"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_job_is_told_what_its_client_is_told(warm: Warm, number: int, status: int) -> None:
    with warm.begin("wait") as process:
        assert at_work(process)["served"]
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    assert process.returncode == status
    assert err.endswith(": wait\n")
    assert (warm.folder / "cleaned").exists()


def test_a_job_is_told_what_its_client_has_not_seen(warm: Warm) -> None:
    with warm.by(["-c", UNSEEN], "wait") as process:
        assert at_work(process)["served"]
        _, err = process.communicate("now\n", timeout=120)
    assert process.returncode == 143
    assert err.endswith(": wait\n")


def test_a_job_dies_with_its_client(warm: Warm) -> None:
    with warm.begin("wait") as process:
        number = at_work(process)["process"]
        process.kill()
        wait_for(lambda: not lives(number))
    assert not (warm.folder / "cleaned").exists()
    assert warm.job("say")["served"]


def test_when_the_warm_process_dies_its_jobs_are_run_afresh(warm: Warm) -> None:
    with warm.begin("wait") as process:
        first = at_work(process)
        os.kill(warm.number, signal.SIGKILL)
        second = at_work(process)
        assert not lives(first["process"])
        assert (first["served"], second["served"]) == (True, False)
        assert second["process"] == process.pid
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
        assert process.returncode == 143
    assert not warm.job("say")["served"]


def test_a_job_that_was_told_to_stop_is_not_run_afresh(warm: Warm) -> None:
    with warm.begin("stubborn") as process:
        assert at_work(process)["served"]
        process.send_signal(signal.SIGTERM)
        wait_for((warm.folder / "told").exists)
        os.kill(warm.number, signal.SIGKILL)
        process.communicate(timeout=120)
    assert process.returncode == 143


@pytest.mark.parametrize("said", [b"", b"\x01", b"\x09\0\0\0", b"\x04\0\0\0what"])
def test_what_asks_for_nothing_leaves_no_trace(warm: Warm, said: bytes) -> None:
    assert warm.job("say")["served"]
    wait_for(warm.at_rest)
    with socket.socket(socket.AF_UNIX) as link, Path(os.devnull).open() as file:
        link.connect(f"\0{warm.environment[ADDRESS]}")
        if said:
            socket.send_fds(link, [said], [file.fileno()])
    assert warm.job("say")["served"]
    # A client hears of its end before the warm process has closed what it held of it.
    wait_for(warm.at_rest)


def test_jobs_run_side_by_side(warm: Warm) -> None:
    with warm.begin("wait") as one, warm.begin("wait") as other:
        numbers = {at_work(process)["process"] for process in (one, other)}
        assert len(numbers) == 2
        assert warm.job("say")["served"]
        for process in (one, other):
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=120)


def test_two_runs_have_a_process_each(warm: Warm) -> None:
    with start(warm.folder) as other:
        assert other.job("say")["parent"] == other.number
        assert warm.job("say")["parent"] == warm.number
        assert warm.number != other.number


def copied(folder: Path) -> Path:
    """Where a copy of the package is that may be edited."""
    package = folder / "workflow"
    shutil.copytree(PACKAGE, package / "flowquant", ignore=shutil.ignore_patterns("__pycache__"))
    return package


@pytest.mark.parametrize("what", ["code", "package"])
def test_an_older_one_is_not_used_and_starts_anew(tmp_path: Path, what: str) -> None:
    """Where a file of the package, or what is installed, has changed since."""
    package = copied(tmp_path)
    with start(tmp_path, package) as warm:
        assert warm.job("say")["served"]
        if what == "code":
            with (package / "flowquant/stages/train.py").open("a") as file:
                file.write("# edited\n")
        else:
            (package / "other-1.0.dist-info").mkdir()
        served = [warm.job("say") for _ in range(3)]
        assert [job["served"] for job in served] == [False, True, True]
        assert {job["parent"] for job in served[1:]} == {warm.number}


def test_another_environment_is_a_process_of_its_own(warm: Warm) -> None:
    assert warm.job("say", OMP_NUM_THREADS="2")["served"]
    for changes in ({"OTHER": "x"}, {"OMP_NUM_THREADS": ""}, {"LD_LIBRARY_PATH": "/nowhere"}):
        assert not warm.job("say", **changes)["served"], changes


@pytest.mark.parametrize("word", ["unknown", "thread"])
def test_what_cannot_be_forked_is_run_afresh(warm: Warm, word: str) -> None:
    """A module that cannot be imported, and one that starts a thread."""
    assert not warm.job(word)["served"]


def test_jobs_compute_with_their_own_threads(warm: Warm) -> None:
    for count in (1, 2):
        said = warm.job("threads", OMP_NUM_THREADS=str(count))
        assert said["served"]
        assert (said["torch"], said["pools"]) == (count, [count])


def test_what_a_job_imports_late_the_next_one_finds(warm: Warm) -> None:
    # In the order in which it imported them.
    late = ["wave", "sched", "colorsys", "quopri", "netrc", "filecmp", "tabnanny"]
    assert [warm.job("late", *late)["known"] for _ in range(2)] == [[], late]


def test_where_an_import_looks_for_more_is_no_change(warm: Warm) -> None:
    more = warm.folder / "more"
    (more / "other.dist-info").mkdir(parents=True)
    assert warm.job("path", str(more))["served"]
    assert warm.job("say")["served"]


@pytest.mark.parametrize(
    "module",
    [
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n",
        "import sys\nif '--serve' in sys.argv:\n    sys.exit()\n",
    ],
    ids=["thread", "exit"],
)
def test_a_late_import_spoils_the_warm_process_once(tmp_path: Path, module: str) -> None:
    package = copied(tmp_path)
    (package / "flowquant/spoils.py").write_text(module)
    with start(tmp_path, package) as warm:
        late = ("late", "flowquant.spoils")
        assert [warm.job(*late)["served"] for _ in range(2)] == [True, False]
        assert warm.job("say")["parent"] == warm.number
        for _ in range(2):
            said = warm.job(*late)
            assert (said["parent"], said["known"]) == (warm.number, [])


def test_jobs_of_a_kind_that_always_spoils_are_run_afresh(warm: Warm) -> None:
    for _ in range(2):
        assert not warm.job("thread")["served"]
        assert warm.job("say")["parent"] == warm.number
    wait_for(warm.at_rest)
    with warm.begin("wait") as process:
        assert at_work(process)["served"]
        served = [warm.job(word)["served"] for word in ("thread", "say")]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    # It is not prepared any more, or the next one would not have been served.
    assert served == [False, True]


def test_a_spoilt_one_starts_anew_when_no_job_is_at_work(warm: Warm) -> None:
    with warm.begin("wait") as process:
        assert at_work(process)["served"]
        served = [warm.job(word)["served"] for word in ("thread", "say")]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert (served, process.returncode) == ([False, False], 143)
    assert (warm.folder / "cleaned").exists()
    assert warm.job("say")["parent"] == warm.number
    warm.starter.kill()
    wait_for(lambda: not lives(warm.number))


def test_it_ends_with_whoever_started_it(warm: Warm) -> None:
    with warm.begin("wait") as process:
        number = at_work(process)["process"]
        warm.starter.kill()
        # A job that is at work is not its to end.
        wait_for(lambda: not _connects(warm))
        assert lives(number)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert process.returncode == 143
    wait_for(lambda: not lives(warm.number))


def _connects(warm: Warm) -> bool:
    return bool(warm.job("say")["served"])


def test_a_user_may_want_none(tmp_path: Path) -> None:
    with start(tmp_path, wish="no") as warm:
        assert warm.number == 0
        assert not warm.job("say")["served"]
