"""Writing a safetensors file without holding its large tensors in memory."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from flowquant.runtime.files import atomic
from flowquant.runtime.tensors import packed_metadata

# Room for the names and shapes of a streamed file's tensors.
_HEADER_BYTES = 4096


Array = np.ndarray[Any, np.dtype[Any]]


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
        header: dict[str, Any] = {"__metadata__": packed_metadata(metadata)}
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
        # The format allows spaces after the header, so that the rows need not move.
        self._file.write(length.to_bytes(8, "little") + text.ljust(length))
        for values in small.values():
            self._file.write(np.ascontiguousarray(values).data)


@contextmanager
def stream_tensors(path: Path, small_bytes: int) -> Iterator[TensorStream]:
    """Write a safetensors file, whole or not at all, without holding its large tensors in memory.

    Large uint8 tensors are appended row by row, of any number; at the end, small tensors and the
    metadata, at most ``small_bytes``, are written into room left free before them.
    """
    room = -(-small_bytes // 8) * 8 + _HEADER_BYTES
    with atomic(path) as temporary, temporary.open("wb") as file:
        file.seek(room)
        yield TensorStream(file, room)


def _header_entry(kind: str, shape: Sequence[int], start: int, size: int) -> dict[str, Any]:
    """A tensor of ``size`` bytes in a safetensors header, from byte ``start`` of the content."""
    return {"dtype": kind, "shape": list(shape), "data_offsets": [start, start + size]}
