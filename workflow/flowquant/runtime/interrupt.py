"""What a stage does when it is interrupted or asked to stop: one line, its exit code, in seconds.

Python's own way is an exception at whatever line it is at: amid an import, a callback or the end of
the process it becomes a traceback, another error or nothing at all.
"""

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import ClassVar, NoReturn

# What ends a process, and how that is told; its exit code is 128 more than the signal's number.
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "asked to stop"}
# Who has not left by itself by then is ended.
SECONDS = 7
# A call that waits does not see what came just before it. What is not heeded is sent once more.
AGAIN = 0.1
# Set by `flowquant.config.shell`: the process that wants this work.
FOR = "FLOWQUANT_FOR"


class _Process:
    """What this process knows of its interruption."""

    command = "flowquant"
    number = 0
    asked = 0
    heeded = False
    at_work = False
    # Blocks that are not interrupted, and what came meanwhile.
    postponing = 0
    waiting = 0
    last: ClassVar[list[Callable[[], None]]] = []


def prepare(command: str) -> None:
    """From now on an interruption ends this process, with a line that names ``command``.

    So does the end of the Snakemake that it works for: a job that nobody waits for would write
    beside the one that the next run starts.
    """
    _Process.command = command
    wanted_by = int(os.environ.get(FOR, "0"))
    if not wanted_by and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        return  # in the background of a script, which wants it so
    _Process.number = os.getpid()
    for number in WORDS:
        signal.signal(number, _interrupt)
    sys.unraisablehook = _not_lost
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(told, wanted_by), daemon=True).start()


def at_work(command: str) -> None:
    """From now on there is something to clean up: an interruption is a `KeyboardInterrupt`."""
    _Process.command = command
    _Process.at_work = True


def done() -> None:
    """From now on there is nothing left to interrupt."""
    if _Process.number == os.getpid():
        for number in WORDS:
            signal.signal(number, signal.SIG_IGN)


def heed() -> None:
    """Say that a handler of one's own has seen what came, and that this process ends."""
    _Process.heeded = True


def asked() -> bool:
    """Whether this process was interrupted, whatever exception has become of it."""
    return bool(_Process.asked)


@contextmanager
def postponed() -> Iterator[None]:
    """Nothing interrupts the block, nor what it starts before that says so itself.

    Signals that other threads of this process take are postponed, too.
    """
    main = threading.current_thread() is threading.main_thread()
    _Process.postponing += main
    former = signal.pthread_sigmask(signal.SIG_BLOCK, WORDS)
    try:
        yield
    finally:
        _Process.postponing -= main
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
        if main and _Process.waiting and not _Process.postponing:
            _interrupt(_Process.waiting, None)


def before_leaving(action: Callable[[], None]) -> Callable[[], None]:
    """Have ``action`` done last when an interruption ends this process, whatever came before."""
    _Process.last.append(action)
    return action


def leave(said: str = "") -> NoReturn:
    """Say so in a line and end this process, without waiting for its threads and libraries."""
    with suppress(Exception):
        sys.stdout.flush()
    for action in _Process.last:
        with suppress(Exception):
            action()
    number = _Process.asked or signal.SIGINT
    line = ": ".join(filter(None, (WORDS[signal.Signals(number)], _Process.command, said)))
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())  # print may be what was interrupted
    os._exit(128 + number)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Not again, and not in a process forked from this one.
    if os.getpid() == _Process.number and not _Process.asked:
        if _Process.postponing:
            _Process.waiting = number
            return
        _Process.asked = number
        if not _Process.at_work:
            leave()
        raise KeyboardInterrupt


def _not_lost(lost: "sys.UnraisableHookArgs") -> None:
    """An interruption amid a callback, where Python ignores exceptions, comes once more."""
    if not isinstance(lost.exc_value, KeyboardInterrupt) or not _Process.asked:
        sys.__unraisablehook__(lost)
        return
    number, _Process.asked = _Process.asked, 0
    threading.Timer(0.05, os.kill, (os.getpid(), number)).start()


def _watch(told: int, wanted_by: int) -> None:
    """End this process when it does not end itself, or is wanted no more."""
    main = threading.main_thread().ident or 0
    while True:
        if select.select([told], [], [], 1)[0]:
            came = [number for number in os.read(told, 64) if number in WORDS]
            time.sleep(AGAIN)
            if came and not (_Process.asked or _Process.waiting or _Process.heeded):
                signal.pthread_kill(main, came[-1])
            if signal.SIGINT in came:
                time.sleep(SECONDS)
                leave()
        elif wanted_by > 1 and not _lives(wanted_by):
            os.kill(os.getpid(), signal.SIGINT)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # Ended, and nobody has asked how.
        return b") Z " not in Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return True
