"""Which GPUs to take, so that jobs side by side on one machine do not all take the first."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import IO

import torch

# By GPU; a lock is held as long as its file is open, so a claim ends with its process.
_held: dict[int, IO[bytes]] = {}


def claim(count: int) -> list[int]:
    """``count`` visible GPUs: those this process has claimed, then unclaimed ones, then any.

    Claims bind the jobs of one user on one machine. A cluster gives each job GPUs of its own.
    """
    visible = range(torch.cuda.device_count())
    if len(visible) > 1:
        for index in visible:
            if len(_held) < count and index not in _held:
                _lock(index)
    # Where there are more jobs than GPUs, they are spread by their numbers.
    others = [(index + os.getpid()) % len(visible) for index in visible]
    return [*_held, *(index for index in others if index not in _held)][:count]


def _lock(index: int) -> None:
    import fcntl

    folder = Path(tempfile.gettempdir()) / f"flowquant-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        file = (folder / str(torch.cuda.get_device_properties(index).uuid)).open("wb")
    except OSError:
        return  # No place for locks: do without.
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
    else:
        _held[index] = file
