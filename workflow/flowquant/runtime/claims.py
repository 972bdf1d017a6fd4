"""GPUs that a process has to itself, among all processes of one user on one machine.

A claim is a file for each GPU that its process keeps locked (``flock``): the kernel lets go of it
when the process ends, however it ends.
"""

import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

# By GPU; locked as long as it is open.
_held: dict[str, IO[str]] = {}


def claim(gpus: Sequence[str], count: int) -> list[int]:
    """The indices of ``count`` of these GPUs: this process's own ones first, then unclaimed ones.

    A process that has a choice waits until enough are unclaimed, and claims none before. One that
    sees no more than it needs has no choice: it takes them, claimed by others or not.

    Args:
        gpus: A name for each GPU that this process sees, the same in all processes.
        count: How many to claim, at most as many as there are.
    """
    try:
        folder = Path(tempfile.gettempdir()) / f"flowquant-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        waiting = False
        while (others := _take(folder, gpus, count)) and len(gpus) > count:
            if not waiting:
                who = ", ".join(others)
                print(f"waiting for a GPU: process {who} is at work", file=sys.stderr, flush=True)
            waiting = True
            time.sleep(0.1)
    except OSError:
        # No place for locks: processes are spread by their numbers.
        return [(index + os.getpid()) % len(gpus) for index in range(count)]
    own = [index for index, gpu in enumerate(gpus) if gpu in _held]
    return own[:count] if len(own) >= count else list(range(count))


def _take(folder: Path, gpus: Sequence[str], count: int) -> list[str]:
    """Lock as many GPUs as are missing; or none, where there is a choice, but too few are free.

    Returns:
        Who has the others, if too few were free.
    """
    taken: dict[str, IO[str]] = {}
    others: list[str] = []
    with (folder / "turn").open("a") as turn:
        # One process at a time looks: what it locks meanwhile and lets go of misleads no other.
        fcntl.flock(turn, fcntl.LOCK_EX)
        for gpu in gpus:
            if gpu in _held or len(_held) + len(taken) >= count:
                continue
            file: IO[str] = (folder / gpu).open("a+", encoding="utf-8")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                others.append(file.read())
                file.close()
            else:
                taken[gpu] = file
        enough = len(_held) + len(taken) >= count
        if enough or len(gpus) == count:
            for file in taken.values():
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
            _held.update(taken)
        else:
            for file in taken.values():
                file.close()
    return [] if enough else others
