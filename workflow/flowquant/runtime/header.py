"""What a safetensors file says of itself, read without torch."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from flowquant.runtime.errors import UserError

# The entry of a safetensors header under which our metadata lies, as JSON.
METADATA_KEY = "flowquant"
DIGEST = "content_sha256"
REMEDY = "It was cut off or changed: delete it and run the workflow again to have it remade."
# Types by their names in the header, under those that torch gives them.
TYPES = {
    **{"BOOL": "bool", "U8": "uint8", "U16": "uint16", "U32": "uint32", "U64": "uint64"},
    **{"I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64"},
    **{"F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"},
    **{"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "C64": "complex64"},
}


@dataclass(frozen=True)
class Entry:
    """A tensor of the file: its type by torch's name, its shape, and where its bytes lie."""

    kind: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def values(self) -> int:
        """How many values it holds."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes they take."""
        return self.end - self.begin


def read_header(path: Path) -> tuple[dict[str, Entry], dict[str, Any]]:
    """The tensors of a file by name, and its metadata, once its digest is found to be right.

    Raises:
        UserError: if the file is missing, truncated, not safetensors, or changed since we wrote it.
    """
    try:
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            size = path.stat().st_size
            header = json.loads(file.read(min(start, size) - 8))
            written = json.loads(header.pop("__metadata__", {}).get(METADATA_KEY, "{}"))
            entries = {
                name: Entry(
                    TYPES[entry["dtype"]],
                    tuple(entry["shape"]),
                    *(start + offset for offset in entry["data_offsets"]),
                )
                for name, entry in header.items()
            }
            if size != max((entry.end for entry in entries.values()), default=start):
                raise ValueError(f"{size} bytes")
            if DIGEST in written:

                def content(entry: Entry) -> bytes:
                    file.seek(entry.begin)
                    return file.read(entry.bytes)

                rows = ((n, e.kind, e.shape, content(e)) for n, e in sorted(entries.items()))
                refuse_changed(path, content_digest(written, rows), written)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            path,
            found=f"an unreadable file ({error})",
            expected="a whole safetensors file",
            remedy="If the workflow made it, delete it and run again; if it is yours, check the "
            "path and copy the file anew.",
        ) from error
    return entries, written


def content_digest(
    metadata: Mapping[str, Any], rows: Iterable[tuple[str, str, Sequence[int], Any]]
) -> str:
    """SHA-256 of the metadata and of each tensor's name, type, shape and bytes, names sorted."""
    hashed = {key: value for key, value in metadata.items() if key != DIGEST}
    digest = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode())
    for name, kind, shape, content in rows:
        digest.update(f"\n{name} {kind} {list(shape)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def refuse_changed(path: Path, found: str, metadata: Mapping[str, Any]) -> None:
    """Refuse a file whose content is not what its metadata says it was when it was written."""
    if found != metadata[DIGEST]:
        raise UserError(
            path,
            found=f"content with SHA-256 {found[:12]}…",
            expected=f"{str(metadata[DIGEST])[:12]}…, as its metadata says",
            remedy=REMEDY,
        )
