"""Files that are either whole or absent: atomic writes, JSON, hashes."""

import errno
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from flowquant.runtime.errors import UserError

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


def refused(path: Path, error: OSError) -> UserError | None:
    """What a disk's refusal to write ``path`` means to a user; None for other errors."""
    # An input that cannot be read is no fault of the output's place.
    named = path if error.filename is None else Path(str(error.filename))
    ours = named in (path, *path.parents) or named.parent == path.parent
    if error.errno not in REFUSALS or not ours:
        return None
    found, expected, remedy = REFUSALS[error.errno]
    remedy += " Nothing half-written was kept."
    return UserError(path, found=found, expected=expected, remedy=remedy)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of ``path``, renamed to it when the block ends well.

    Whatever goes wrong inside, ``path`` keeps its former content and the temporary file is removed.

    Raises:
        UserError: if the disk is full, the place not writable, or `path` no file.
    """
    temporary = None
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        # As short as it can be: a name that just fits must fit with it.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp makes files that only their owner can read; results are to be shared.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        if (problem := refused(path, error)) is None:
            raise
        raise problem from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


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


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: if the file is missing or is not JSON, which has no NaN and no infinity.
    """

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name}, which is no number")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (OSError, ValueError) as error:
        raise UserError(
            path,
            found=str(error),
            expected="a JSON file",
            remedy="Delete the file and run the workflow again to have it remade.",
        ) from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
