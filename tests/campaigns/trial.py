"""One stage in a forked process: started in milliseconds, killed at will, and what came of it."""

from __future__ import annotations

import atexit
import os
import resource
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from flowquant.runtime.interrupt import FOR

# What goes on for longer hangs.
LONGEST = 300.0
# Address space beyond what is there: a bomb ends its own process, not the machine.
GUARD = 4 << 30


@dataclass(frozen=True)
class Ending:
    """How a process ended."""

    code: int  # an exit code, or a signal's number below zero
    said: str  # stderr
    printed: str
    seconds: float
    peak: int  # bytes, of the process itself
    late: bool = False  # it had ended before the signal
    timed_out: bool = False
    survivors: int = 0  # processes of its session, a minute later

    @property
    def traceback(self) -> str:
        """The last line of an exception's report, if there is one."""
        text = self.said + self.printed
        if "Traceback (most recent call last)" not in text and "Exception ignored" not in text:
            return ""
        told = text[text.rfind("Traceback (most recent call last)") :].splitlines()
        place = [line.strip() for line in told if line.startswith("  File")]
        error = [line for line in told[1:] if line and not line.startswith(" ")]
        own = [line for line in place if "/flowquant/" in line]
        where = (own or place or ["?"])[-1]
        return f"{(error or told)[0][:160]} at {where.rpartition('/flowquant/')[2]}"


@dataclass(frozen=True)
class Kill:
    """A signal, when it is sent, and to whom."""

    number: signal.Signals
    after: float  # seconds since the stage began
    alone: bool = False  # to the process and not its group, as the kernel does when memory is short


def run(
    folder: Path,
    words: Sequence[str],
    kill: Kill | None = None,
    cold: bool = False,
    learned: Path | None = None,
) -> Ending:
    """Run a stage in ``folder``, as a process that leads a session of its own.

    Args:
        folder: Where it works; what it says goes to ``folder.err`` and ``folder.out`` beside it.
        words: Its command line.
        kill: What to send it.
        cold: In a new interpreter, whose start can be hit too, in place of a fork of this one.
        learned: Where it writes the names of the modules that it imported.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    (folder / "tmp").mkdir(exist_ok=True)
    ready, told = os.pipe()
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.close(ready)
        _become(folder, words, told, cold, learned)
    os.close(told)
    with os.fdopen(ready, "rb") as begun:
        begun.read(1)
    began = time.monotonic()
    handle = os.pidfd_open(pid)
    late = False
    if kill is not None:
        late = bool(select.select([handle], [], [], kill.after)[0])
        if not late:
            os.kill(pid, kill.number) if kill.alone else os.killpg(pid, kill.number)
    rest = LONGEST - (time.monotonic() - began)
    timed_out = not select.select([handle], [], [], max(rest, 0))[0]
    if timed_out:
        os.killpg(pid, signal.SIGKILL)
    _, status, used = os.wait4(pid, 0)
    os.close(handle)
    ended = time.monotonic()
    return Ending(
        code=os.waitstatus_to_exitcode(status),
        said=_text(folder, ".err"),
        printed=_text(folder, ".out"),
        seconds=ended - started,
        peak=used.ru_maxrss * 1024,
        late=late,
        timed_out=timed_out,
        survivors=end_session(pid, 0.0 if kill is None else 60.0),
    )


# What runs before a stage has its own way to be interrupted: a shell has it ignored until then.
BEGINNING = ("main", "commands", "prepare")


def beside(folder: Path, suffix: str) -> Path:
    """A file about a trial's folder, outside it."""
    return folder.parent / (folder.name + suffix)


def _text(folder: Path, suffix: str) -> str:
    return beside(folder, suffix).read_text(errors="replace")[-100_000:]


def _become(
    folder: Path, words: Sequence[str], told: int, cold: bool, learned: Path | None
) -> NoReturn:
    """What the forked process does: it becomes the stage and ends as Python does."""
    try:
        os.setsid()
        os.chdir(folder)
        for target, source, flags in (
            (0, os.devnull, os.O_RDONLY),
            (1, beside(folder, ".out"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
            (2, beside(folder, ".err"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
        ):
            os.dup2(os.open(source, flags, 0o644), target)
        # A shell that runs something in the background has it ignore this one.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ["TMPDIR"] = str(folder / "tmp")
        _limit()
        before = set(sys.modules)
        if cold:
            # As the workflow's shell has it: nothing interrupts Python before the stage's own way.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.environ[FOR] = str(os.getppid())
            os.write(told, b".")
            os.execv(sys.executable, [sys.executable, "-m", "flowquant", *words])
        code = _call(words, told)
        if learned is not None:
            learned.write_text("\n".join(name for name in sys.modules if name not in before))
    except BaseException:
        traceback.print_exc()
        code = 1
    _finish(code)


def _limit() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + GUARD
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _call(words: Sequence[str], told: int) -> int:
    import flowquant.__main__ as entry

    # What a helper process of the stage imports as its main module.
    sys.modules["__main__"] = entry
    sys.argv = ["flowquant", *words]
    try:
        os.write(told, b".")
        os.close(told)
        entry.main(list(words))
    except KeyboardInterrupt as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "flowquant" in Path(frame.filename).parts]
        if any(frame.name not in BEGINNING for frame in ours):
            raise
        return 130  # it came before the stage could say anything
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    return 0


def _finish(code: int) -> NoReturn:
    ends: list[Callable[[], None]] = [
        threading._shutdown,  # type: ignore[attr-defined]
        atexit._run_exitfuncs,
        sys.stdout.flush,
        sys.stderr.flush,
    ]
    for end in ends:
        try:
            end()
        except BaseException:
            traceback.print_exc()
            code = code or 1
    os._exit(code)


def end_session(session: int, patience: float) -> int:
    """Kill what is left of a session after a while; how many processes it was."""
    until = time.monotonic() + patience
    while (found := _members(session)) and time.monotonic() < until:
        time.sleep(0.05)
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return len(found)


def _members(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(int(entry.name))
    return found
