"""Snakemake's lock of a folder, removed when the process that took it is gone.

Snakemake's lock files do not say whose they are. Each run of this workflow therefore lists its own
in a file of its own, which it keeps locked (``flock``): the kernel lets go of that when the process
ends, however it ends. A lock that no such file lists is never touched.
"""

import atexit
import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

FOLDER = Path(".snakemake")
UNLOCK = "If no Snakemake runs in this folder any more: `snakemake --unlock`, then run again."
# Kept open, and so locked, as long as this process lives.
_claims: list[IO[str]] = []


def claim(files: Iterable[str]) -> None:
    """Say that these lock files of Snakemake are this process's."""
    locks = [Path(name) for name in files]
    if not locks:
        return
    path = FOLDER.resolve() / "owners" / f"{socket.gethostname()}-{os.getpid()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    owner = path.open("w", encoding="utf-8")
    atexit.register(path.unlink, missing_ok=True)
    _claims.append(owner)
    try:
        fcntl.flock(owner, fcntl.LOCK_EX)
    except OSError:
        return  # A file system that locks nothing: this claim stays empty.
    json.dump(
        {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "locks": {lock.name: _mark(lock) for lock in locks},
        },
        owner,
    )
    owner.flush()


def release() -> str | None:
    """Remove lock files whose owner is gone, and what gone owners left.

    Returns:
        Why the folder stays locked, if it does.
    """
    locked = {path.name: _mark(path) for path in (FOLDER / "locks").glob("*.lock")}
    for owner, path, living in list(_owners()):
        own = [name for name, mark in owner["locks"].items() if locked.get(name) == mark]
        who = f"process {owner['process']} on {owner['host']}"
        here = owner["host"] == socket.gethostname()
        if own and not here:
            return f"this folder is locked by {who}, another machine. {UNLOCK}"
        if own and living:
            return f"this folder is locked by {who}, which is at work: wait for it, or end it."
        if living or not here:
            continue
        for name in own:
            (FOLDER / "locks" / name).unlink(missing_ok=True)
            del locked[name]
        if own:
            print(f"unlocked this folder: {who} is gone", file=sys.stderr)
        path.unlink(missing_ok=True)
    return f"this folder is locked, and it is not known by whom. {UNLOCK}" if locked else None


def _owners() -> Iterator[tuple[dict[str, Any], Path, bool]]:
    """Each claim, its file, and whether the process that made it lives."""
    for path in sorted((FOLDER / "owners").glob("*.json")):
        try:
            with path.open(encoding="utf-8") as file:
                yield json.load(file), path, not _free(file)
        except (OSError, ValueError):
            continue


def _free(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _mark(path: Path) -> list[int]:
    """What tells a file from another of its name."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return []
    return [found.st_ino, found.st_mtime_ns]
