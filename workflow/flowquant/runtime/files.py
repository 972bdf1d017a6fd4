"""Files that are either whole or absent: atomic writes, JSON, hashes."""

import errno
import fcntl
import hashlib
import json
import math
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from flowquant.runtime import interrupt
from flowquant.runtime.errors import UserError
from flowquant.runtime.forms import fit, parse_json

T = TypeVar("T")

# Text that is read whole, in bytes: no configuration and no report comes near.
MOST_TEXT = 1 << 26

# Every way in which a disk says no: what is found, what is expected, what to do.
ELSEWHERE = "Choose another place, or make this one writable."
REFUSALS = {
    errno.ENOSPC: ("a full disk", "room for this file", "Free some space and run again."),
    errno.EDQUOT: ("a full quota", "room for this file", "Free some space and run again."),
    errno.EFBIG: ("a file too large for this place", "room for it", ELSEWHERE),
    errno.EROFS: ("a read-only place", "one to write to", ELSEWHERE),
    errno.EACCES: ("no permission to write", "permission", ELSEWHERE),
    errno.EPERM: ("no permission to write", "permission", ELSEWHERE),
    errno.EISDIR: (
        "a folder",
        "a file, or nothing yet",
        "Move the folder, or choose another name.",
    ),
    errno.ENOTDIR: ("a file where a folder should be", "a folder", "Move that file."),
    errno.EEXIST: ("a file where a folder should be", "a folder", "Move that file."),
    errno.ENAMETOOLONG: (
        "a name too long for this place",
        "a shorter one",
        "Choose a shorter name.",
    ),
    errno.EIO: ("a disk that fails", "one that works", ELSEWHERE),
}


# What no stage reads from or writes over: most of them would be waited for without end.
NO_FILES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def regular(path: Path, *, or_folder: bool = False) -> Path:
    """``path`` if a file, or nothing, is there; links are followed, and nothing is opened.

    Raises:
        UserError: if it is a pipe, a socket or a device, or a folder without ``or_folder``.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return path
    if kind in NO_FILES and not (or_folder and kind == stat.S_IFDIR):
        raise UserError(
            path,
            found=NO_FILES[kind],
            expected="a file",
            remedy="Name another path, or put a file there.",
        )
    return path


def refused(path: Path, error: OSError) -> UserError | None:
    """What a disk's refusal to write ``path`` means to a user; None for other errors."""
    # An input that cannot be read is no fault of the output's place.
    named = path if error.filename is None else Path(str(error.filename))
    beside = named.parent == path.parent and named.name.startswith(_mark(path))
    if error.errno not in REFUSALS or not (beside or named in (path, *path.parents)):
        return None
    found, expected, remedy = REFUSALS[error.errno]
    remedy += " Nothing half-written was kept."
    return UserError(path, found=found, expected=expected, remedy=remedy)


def _mark(path: Path) -> str:
    """How the names of temporary files of ``path`` begin; short, whatever its own name is."""
    return f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]}."


def temporary(path: Path, suffix: str) -> AbstractContextManager[Path]:
    """A new file in the folder of ``path``, which is made, until the block ends.

    What killed processes left of earlier ones for the same ``path`` is removed first: each is
    locked while its process lives. Where the file system has no locks, nothing is removed.

    Raises:
        UserError: if the disk is full or the place not writable.
    """
    return _temporary(path, partial(tempfile.mkstemp, suffix))


def temporary_folder(path: Path) -> AbstractContextManager[Path]:
    """A new folder beside ``path``, with all that is put into it, as `temporary`."""
    return _temporary(path, _make_folder)


def _make_folder(prefix: str, dir: Path) -> tuple[int, str]:
    name = tempfile.mkdtemp(prefix=prefix, dir=dir)
    return os.open(name, os.O_RDONLY), name


# What this process has made and is to delete, also where an interruption comes between a block and
# the lines of `contextlib` around it.
_unfinished: set[Path] = set()


@interrupt.before_leaving
def _delete_unfinished() -> None:
    for path in tuple(_unfinished):
        with suppress(OSError):
            _delete(path)


@contextmanager
def _temporary(path: Path, make: Callable[..., tuple[int, str]]) -> Iterator[Path]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(path)
        made = None
        while made is None:
            with interrupt.postponed():
                lock, name = make(prefix=_mark(path), dir=path.parent)
                made = Path(name)
                _unfinished.add(made)
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.fstat(lock).st_nlink:
                # Another process took it for a left one before it was locked.
                os.close(lock)
                _unfinished.remove(made)
                made = None
        try:
            yield made
        finally:
            os.close(lock)
            _delete(made)
            _unfinished.remove(made)
    except OSError as error:
        if (problem := refused(path, error)) is None:
            raise
        raise problem from error


def _delete(path: Path) -> None:
    """Delete a file, or a folder and what is in it, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_left(path: Path) -> None:
    """Remove the temporary files and folders of ``path`` that no process holds."""
    for left in path.parent.glob(f"{_mark(path)}*"):
        with suppress(OSError):  # Held, gone, somebody else's, or no locks here: it stays.
            lock = os.open(left, os.O_RDONLY if left.is_dir() else os.O_RDWR)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _delete(left)
            finally:
                os.close(lock)


def remove(path: Path) -> None:
    """Remove a file, if there is one, and what killed processes left of its temporary files."""
    path.unlink(missing_ok=True)
    _remove_left(path)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of ``path``, renamed to it when the block ends well.

    Whatever goes wrong inside, ``path`` keeps its former content and the temporary file is removed.

    Raises:
        UserError: if the disk is full, the place not writable, or `path` no file.
    """
    with temporary(path, path.suffix) as unfinished:
        regular(path)
        yield unfinished
        # Temporary files can be read by their owner alone; results are to be shared.
        umask = os.umask(0)
        os.umask(umask)
        unfinished.chmod(0o666 & ~umask)
        unfinished.replace(path)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` in UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON with a final newline.

    Raises:
        UserError: if a number in it is NaN or infinite.
    """
    refuse_no_numbers(path, content)
    write_text(path, json.dumps(content, indent=2) + "\n")


def refuse_no_numbers(path: Path, content: object, key: str = "") -> None:
    """Keep NaN and infinity, which tables and figures would silently show, out of results.

    Raises:
        UserError: naming the first of them.
    """
    items: Iterator[tuple[object, object]] = iter(())
    if isinstance(content, dict):
        items = iter(content.items())
    elif isinstance(content, list | tuple):
        items = iter(enumerate(content))
    elif isinstance(content, float) and not math.isfinite(content):
        raise UserError(
            path,
            found=f"{content} for `{key}`",
            expected="a finite number",
            remedy="Look for what came before it: a model that diverged, images that are all "
            "alike, or too few of them. Nothing was written.",
        )
    for name, value in items:
        refuse_no_numbers(path, value, f"{key}.{name}".strip("."))


def read_json(path: Path, form: type[T]) -> T:
    """Read a JSON file that the workflow made.

    Args:
        path: The file.
        form: What must be in it, as `fit` takes it.

    Raises:
        UserError: if the file is missing, is not JSON, or lacks a key or has another type there.
    """
    expected = "a JSON file that the workflow made"
    remedy = "Delete the file and run the workflow again to have it remade."
    try:
        content = parse_json(read_text(path))
    except (OSError, ValueError) as error:
        raise UserError(path, found=str(error), expected=expected, remedy=remedy) from error
    return fit(path, form, content, expected=expected, remedy=remedy)


def read_text(path: Path) -> str:
    """A text file in UTF-8.

    Raises:
        OSError, ValueError: as `read_bytes`, or if it is other than UTF-8.
    """
    return read_bytes(path).decode()


def read_bytes(path: Path) -> bytes:
    """All of a file, up to `MOST_TEXT`.

    Raises:
        OSError, ValueError: if it is missing or larger.
    """
    with regular(path).open("rb") as file:
        content = file.read(MOST_TEXT + 1)
    if len(content) > MOST_TEXT:
        raise ValueError(f"more than {MOST_TEXT:,} bytes")
    return content


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
