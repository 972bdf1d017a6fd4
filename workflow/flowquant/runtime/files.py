"""Files that are either whole or absent: atomic writes, JSON, hashes."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flowquant.runtime.errors import UserError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path in the folder of ``path``, renamed to it when the block ends well.

    Whatever goes wrong inside, ``path`` keeps its former content and the temporary file is removed.

    Raises:
        UserError: if the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner can read; results are to be shared.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        if error.errno is None or os.strerror(error.errno) != "No space left on device":
            raise
        raise UserError(
            path,
            found="a full disk",
            expected="room for this file",
            remedy="Free some space and run again: nothing half-written was kept.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` in UTF-8."""
    with atomic(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON with a final newline."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: if the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
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
