"""What a safetensors file says of itself, read without torch."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Generic, TypeVar

from flowquant import __version__
from flowquant.runtime.errors import UserError
from flowquant.runtime.forms import fit, parse_json

M = TypeVar("M")

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
class Kind(Generic[M]):
    """A kind of file that we write: what its metadata and its tensors must be.

    Args:
        name: What it is.
        maker: The commands that write it.
        metadata: The type, a dataclass, that its metadata must fit.
        tensors: The form of each tensor, as `check_tensors` takes it; none where metadata tell.
        optional: Of tensors that are there together or not at all.
        version: Of the format, the newest that is read; metadata may name an older one.
        oldest: The oldest version that is read.
        remedy: What to do with a file that is something else.
        digest: Whether every file has one: none does that was written as it came.
    """

    name: str
    maker: str
    metadata: type[M]
    tensors: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    oldest: int = 1
    remedy: str = "Check the path, or delete the file and run the workflow again."
    digest: bool = True

    @property
    def described(self) -> str:
        """What is expected where a file is something else."""
        return f"a {self.name}, written by {self.maker}"

    def label(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Metadata that say what the file is, too."""
        ours = {"kind": self.name, "made_by": f"flowquant {__version__}"}
        return {"version": self.version, **metadata, **ours}

    def demands_digest(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a file with these metadata must have a digest."""
        return self.digest and "kind" in metadata


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


@dataclass(frozen=True)
class Header(Generic[M]):
    """What a file says: its tensors by name, metadata as they stand there, and as their type."""

    entries: dict[str, Entry]
    metadata: dict[str, Any]
    described: M


def read_header(path: Path, kind: Kind[M]) -> Header[M]:
    """What a file of a kind says, once its digest is found to be right.

    Raises:
        UserError: if it is unreadable, something else, of another version, or changed since it was
            written.
    """
    try:
        with path.open("rb") as file:
            start, size = 8 + int.from_bytes(file.read(8), "little"), path.stat().st_size
            header = parse_json(file.read(min(start, size) - 8).decode())
            metadata = of_header(header.pop("__metadata__", {}))
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
            check_version(path, metadata, kind)
            if DIGEST in metadata or kind.demands_digest(metadata):

                def content(entry: Entry) -> bytes:
                    file.seek(entry.begin)
                    return file.read(entry.bytes)

                rows = ((n, e.kind, e.shape, content(e)) for n, e in sorted(entries.items()))
                check_digest(path, content_digest(metadata, rows), metadata)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise unreadable(path, error) from error
    described = fit(path, kind.metadata, metadata, expected=kind.described, remedy=kind.remedy)
    return Header(entries, metadata, described)


def of_header(texts: Mapping[str, str]) -> dict[str, Any]:
    """Our metadata among those of a header; empty for a file that others wrote.

    Raises:
        ValueError: if they are no mapping in JSON.
    """
    content = parse_json(texts.get(METADATA_KEY, "{}"))
    if not isinstance(content, dict):
        raise ValueError(f"metadata that are no mapping but a {type(content).__name__}")
    return content


def unreadable(path: Path, error: Exception) -> UserError:
    """What is wrong with a file that is no safetensors file, or not a whole one."""
    return UserError(
        path,
        found=f"an unreadable file ({error})",
        expected="a whole safetensors file",
        remedy="If the workflow made it, delete it and run again; if it is yours, check the path "
        "and copy the file anew.",
    )


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


def check_digest(path: Path, found: str, metadata: Mapping[str, Any]) -> None:
    """Refuse a file whose content is not what its metadata says it was when it was written."""
    written = str(metadata.get(DIGEST))
    if found != written:
        raise UserError(
            path,
            found=f"content with SHA-256 {found[:12]}…",
            expected=f"{written[:12]}…, as its metadata says",
            remedy=REMEDY,
        )


def check_version(path: Path, metadata: Mapping[str, Any], kind: Kind[Any]) -> None:
    """Refuse a file of another kind, or of another version of this one."""
    named = metadata.get("kind", kind.name)
    if named != kind.name:
        raise UserError(
            path,
            found=f"a {' '.join(str(named).split())[:60]}",
            expected=kind.described,
            remedy=kind.remedy,
        )
    version = metadata.get("version", None if "kind" in metadata else kind.oldest)
    if type(version) is int and kind.oldest <= version <= kind.version:
        return
    newer = type(version) is int and version > kind.version
    readable = " or ".join(map(str, range(kind.oldest, kind.version + 1)))
    raise UserError(
        path,
        found=f"a {kind.name} of format version {version}, "
        f"made by {metadata.get('made_by', 'an unknown program')}",
        expected=f"format version {readable}, as flowquant {__version__} reads it",
        remedy="Update flowquant to read this file."
        if newer
        else f"Delete it and run the workflow again: {kind.maker} makes it anew.",
    )
