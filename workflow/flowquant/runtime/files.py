"""Files that are either whole or absent: atomic writes, safetensors with metadata, JSON, CSV."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from flowquant.runtime.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

_METADATA_KEY = "flowquant"
# Room for the names and shapes of a streamed file's tensors.
_HEADER_BYTES = 4096
Array = np.ndarray[Any, np.dtype[Any]]


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed to it when the block ends well.

    Whatever goes wrong inside, ``path`` keeps its former content and the temporary file goes.
    A full disk is told as a `UserError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner can read; results are made to be shared.
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


def write_json(path: Path, content: object) -> None:
    """Write ``content`` as indented JSON with a final newline."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


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


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV under a header; nothing (None) becomes an empty cell."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write named tensors and JSON-able metadata as one safetensors file."""
    from safetensors.torch import save_file

    with atomic(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata=_packed(metadata),
        )


class TensorStream:
    """A safetensors file whose large tensors grow row by row; see `stream_tensors`."""

    def __init__(self, file: BinaryIO, room: int) -> None:
        self._file, self._room = file, room
        self._shapes: dict[str, list[int]] = {}

    def append(self, name: str, rows: Array) -> None:
        """Add uint8 rows [n, …] to a tensor; the rows of one tensor before those of the next."""
        if name in self._shapes and name != list(self._shapes)[-1]:
            raise ValueError(f"{name} is complete: another tensor was begun after it")
        shape = self._shapes.setdefault(name, [0, *rows.shape[1:]])
        shape[0] += len(rows)
        self._file.write(np.ascontiguousarray(rows).data)

    def finish(self, small: Mapping[str, Array], metadata: Mapping[str, Any]) -> None:
        """Write the small tensors, int64 or uint8 but not both, and the header."""
        header: dict[str, Any] = {"__metadata__": _packed(metadata)}
        end = 0
        for name, values in small.items():
            kind = {"int64": "I64", "uint8": "U8"}[values.dtype.name]
            header[name] = _header_entry(kind, values.shape, end, values.nbytes)
            end += values.nbytes
        small_bytes = end
        for name, shape in self._shapes.items():
            header[name] = _header_entry("U8", shape, end, math.prod(shape))
            end += math.prod(shape)
        length = self._room - 8 - small_bytes
        text = json.dumps(header).encode()
        if len(text) > length:
            raise ValueError(f"a header of {len(text)} bytes where {length} were left free")
        self._file.seek(0)
        # The format lets spaces follow the header, so that the rows need not move.
        self._file.write(length.to_bytes(8, "little") + text.ljust(length))
        for values in small.values():
            self._file.write(np.ascontiguousarray(values).data)


@contextmanager
def stream_tensors(path: Path, small_bytes: int) -> Iterator[TensorStream]:
    """Write a safetensors file without holding its large tensors in memory.

    Large uint8 tensors are appended row by row, however many come; at the end, small tensors and
    the metadata take the room left free before them.

    Args:
        path: The file to write, whole or not at all.
        small_bytes: The most that small tensors and metadata can take.
    """
    room = -(-small_bytes // 8) * 8 + _HEADER_BYTES
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.seek(room)
        yield TensorStream(file, room)


def _header_entry(kind: str, shape: Sequence[int], start: int, size: int) -> dict[str, Any]:
    return {"dtype": kind, "shape": list(shape), "data_offsets": [start, start + size]}


def _packed(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {_METADATA_KEY: json.dumps(metadata, sort_keys=True, separators=(",", ":"))}


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a safetensors file: its tensors (memory-mapped, on the CPU) and its metadata.

    Raises:
        UserError: if the file is missing, truncated or not safetensors.
    """
    with _open(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _metadata(file)  # noqa: SIM118


def read_metadata(path: Path) -> dict[str, Any]:
    """Read a safetensors file's metadata; raises as `read_tensors` does."""
    with _open(path) as file:
        return _metadata(file)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(
            path,
            found=f"an unreadable file ({error})",
            expected="a whole safetensors file",
            remedy="If the workflow made it, delete it and run again; if it is yours, check the "
            "path and copy the file anew.",
        ) from error


def _metadata(file: Any) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
    return content


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
