"""What a stage does when it is interrupted: one line, exit code 130, within seconds.

Python's own way is an exception at whatever line it is at: amid an import, a callback or the end of
the process it becomes a traceback, another error or nothing at all.
"""

import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

CODE = 128 + signal.SIGINT
# Who has not left by itself by then is ended.
SECONDS = 7
# Set by `flowquant.config.shell`: the process that wants this work.
FOR = "FLOWQUANT_FOR"


class _Process:
    """What this process knows of its interruption."""

    command = "flowquant"
    number = 0
    asked = False
    at_work = False


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
    signal.signal(signal.SIGINT, _interrupt)
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
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def asked() -> bool:
    """Whether this process was interrupted, whatever exception has become of it."""
    return _Process.asked


def leave(said: str = "") -> NoReturn:
    """Say so in a line and end this process, without waiting for its threads and libraries."""
    with suppress(Exception):
        sys.stdout.flush()
    line = ": ".join(filter(None, ("interrupted", _Process.command, said)))
    with suppress(OSError):
        os.write(2, f"{line}\n".encode())  # print may be what was interrupted
    os._exit(CODE)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # Not again, and not in a process forked from this one.
    if os.getpid() == _Process.number and not _Process.asked:
        _Process.asked = True
        if not _Process.at_work:
            leave()
        raise KeyboardInterrupt


def _watch(told: int, wanted_by: int) -> None:
    """End this process when it does not end itself, or is wanted no more."""
    while True:
        if select.select([told], [], [], 1)[0]:
            if signal.SIGINT in os.read(told, 64):
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
