"""Named tensors with metadata, as safetensors files, and what a reader demands of them."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from flowquant import __version__
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.files import atomic
from flowquant.runtime.forms import fit, parse_json

M = TypeVar("M")
# The entry of a safetensors header under which our metadata lies, as JSON.
_METADATA_KEY = "flowquant"
DIGEST = "content_sha256"
REMEDY = "It was cut off or changed: delete it and run the workflow again to have it remade."


@dataclass(frozen=True)
class Kind(Generic[M]):
    """A kind of file that we write: what its metadata and its tensors must be.

    Args:
        name: What it is.
        maker: The commands that write it.
        metadata: The type, a dataclass, that its metadata must fit.
        tensors: The form of each tensor, as `check_tensors` takes it; none where metadata tell.
        optional: Of tensors that are there together or not at all.
        version: Of the format; another one is refused.
        remedy: What to do with a file that is something else.
        digest: Whether every file has one: none does that was written as it came.
    """

    name: str
    maker: str
    metadata: type[M]
    tensors: Mapping[str, str] = field(default_factory=dict)
    optional: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    remedy: str = "Check the path, or delete the file and run the workflow again."
    digest: bool = True

    @property
    def described(self) -> str:
        """What is expected where a file is something else."""
        return f"a {self.name}, written by {self.maker}"

    def label(self, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Metadata that say what the file is, too."""
        ours = {"kind": self.name, "version": self.version, "made_by": f"flowquant {__version__}"}
        return {**metadata, **ours}


@dataclass(frozen=True)
class Content(Generic[M]):
    """What a file holds: tensors by name, metadata as they stand there, and as their type."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]
    described: M


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, Any],
    kind: Kind[Any] | None = None,
) -> None:
    """Write named tensors and JSON-able metadata as one safetensors file.

    The metadata get ``content_sha256``, a digest of all there is, which readers check, and what a
    ``kind`` says of its files: ``kind``, ``version`` and ``made_by``.

    Raises:
        UserError: as `atomic`.
    """
    from safetensors.torch import save

    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    described = kind.label(metadata) if kind else dict(metadata)
    described[DIGEST] = content_sha256(content, described)
    with atomic(path) as temporary:
        # `save_file` would make a temporary file of its own, which a killed process leaves.
        temporary.write_bytes(save(content, packed_metadata(described)))


def content_sha256(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """SHA-256 of the metadata and of every tensor's name, type, shape and bytes, by name."""
    hashed = {key: value for key, value in metadata.items() if key != DIGEST}
    digest = hashlib.sha256(json.dumps(hashed, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"\n{name} {_type(tensor)} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def packed_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Metadata as the one entry of a safetensors header that holds it."""
    return {_METADATA_KEY: json.dumps(metadata, sort_keys=True, separators=(",", ":"))}


def read_file(path: Path, kind: Kind[M]) -> Content[M]:
    """Read a file of a kind: its tensors (memory-mapped, on the CPU) and its metadata.

    A file that does not say its kind, as they were written once, is read if all else fits.

    Raises:
        UserError: if it is unreadable, something else, of another version, changed since it was
            written, or holds other tensors than it should.
    """
    tensors, metadata = _read(path)
    _check_version(path, metadata, kind)
    _check_digest(path, tensors, metadata, demanded=kind.digest and "kind" in metadata)
    described = fit(path, kind.metadata, metadata, expected=kind.described, remedy=kind.remedy)
    if kind.tensors:
        optional = kind.optional if kind.optional.keys() & tensors.keys() else {}
        check_tensors(path, tensors, {**kind.tensors, **optional}, kind.described, kind.remedy)
        check_finite(path, tensors, kind.remedy)
    return Content(tensors, metadata, described)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read any safetensors file: its tensors (memory-mapped, on the CPU) and our metadata, if any.

    Raises:
        UserError: if the file is missing, truncated, not safetensors, or changed since we wrote it.
    """
    tensors, metadata = _read(path)
    _check_digest(path, tensors, metadata, demanded=False)
    return tensors, metadata


def read_metadata(path: Path) -> dict[str, Any]:
    """Read a safetensors file's metadata; raises as `read_tensors` does."""
    with _open(path) as file:
        return _metadata(file)


def check_tensors(
    path: Path, tensors: Mapping[str, Tensor], forms: Mapping[str, str], expected: str, remedy: str
) -> None:
    """Check that a file holds the tensors of these names and forms, and no others.

    A form is a type and a shape, ``uint8 [N, 3, 8, 8]``; alternatives of types stand as
    ``float16|float32``, of both as ``int64 [N] or uint8 [N, A]``. A letter is a size of at least
    one, the same throughout the file, ``*`` any such.

    Raises:
        UserError: naming ten tensors of each misfit at most.
    """
    sizes: dict[str, int] = {}
    misfits = {
        "missing": sorted(set(forms) - set(tensors)),
        "unexpected": sorted(set(tensors) - set(forms)),
        "of another form": [
            f"{name}, {_described(tensors[name])} for {form}"
            for name, form in forms.items()
            if name in tensors and not _fits(tensors[name], form, sizes)
        ],
    }
    if any(misfits.values()):
        found = "; ".join(f"{what}: {some(names)}" for what, names in misfits.items() if names)
        raise UserError(path, found=found, expected=expected, remedy=remedy)


def check_finite(path: Path, tensors: Mapping[str, Tensor], remedy: str) -> None:
    """Refuse NaN and infinity by a `UserError` that names the tensors at fault."""
    floats = ((n, tensor) for n, tensor in tensors.items() if tensor.is_floating_point())
    if bad := [name for name, tensor in floats if not tensor.isfinite().all()]:
        raise UserError(
            path,
            found=f"NaN or infinite values in {some(bad)}",
            expected="finite values",
            remedy=remedy,
        )


def forms_of(network: nn.Module, types: str = "") -> dict[str, str]:
    """The forms of a network's parameters and buffers, of its own types or of given ones."""
    return {
        name: f"{types or _type(tensor)} {list(tensor.shape)}"
        for name, tensor in network.state_dict().items()
    }


def _fits(tensor: Tensor, form: str, sizes: dict[str, int]) -> bool:
    """Whether a tensor is of a form; the ``sizes`` of letters are kept for the next one."""
    for alternative in form.split(" or "):
        types, _, shape = alternative.partition(" ")
        dims, bound = re.findall(r"[^][, ]+", shape), dict(sizes)
        if (
            _type(tensor) in types.split("|")
            and not _peculiarities(tensor)
            and len(dims) == tensor.dim()
            and all(_is_size(d, n, bound) for d, n in zip(dims, tensor.shape, strict=True))
        ):
            sizes |= bound
            return True
    return False


def _is_size(dim: str, size: int, sizes: dict[str, int]) -> bool:
    if dim.isdigit():
        return size == int(dim)
    return size > 0 and (dim == "*" or sizes.setdefault(dim, size) == size)


def _described(tensor: Tensor) -> str:
    """A tensor in words: what is peculiar about it, its type and its shape."""
    return " ".join([*_peculiarities(tensor), _type(tensor), _shape(tensor)])


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _shape(tensor: Tensor) -> str:
    # A nested tensor has no shape that could be asked for.
    return "" if tensor.is_nested else str(list(tensor.shape))


def _peculiarities(tensor: Tensor) -> list[str]:
    """What keeps a tensor from being plain numbers in memory."""
    kinds = {
        "nested": tensor.is_nested,
        str(tensor.layout).removeprefix("torch."): tensor.layout != torch.strided,
        "quantized": tensor.is_quantized,
        "meta": tensor.is_meta,
        type(tensor).__name__: type(tensor) not in (Tensor, nn.Parameter),
    }
    return [kind for kind, is_so in kinds.items() if is_so]


def _check_version(path: Path, metadata: Mapping[str, Any], kind: Kind[Any]) -> None:
    """Refuse a file of another kind, or of another version of this one."""
    named = metadata.get("kind", kind.name)
    if named != kind.name:
        raise UserError(
            path,
            found=f"a {' '.join(str(named).split())[:60]}",
            expected=kind.described,
            remedy=kind.remedy,
        )
    version = metadata.get("version", None if "kind" in metadata else kind.version)
    if type(version) is int and version == kind.version:
        return
    newer = type(version) is int and version > kind.version
    raise UserError(
        path,
        found=f"a {kind.name} of format version {version}, "
        f"made by {metadata.get('made_by', 'an unknown program')}",
        expected=f"format version {kind.version}, as flowquant {__version__} reads it",
        remedy="Update flowquant to read this file."
        if newer
        else f"Delete it and run the workflow again: {kind.maker} makes it anew.",
    )


def _check_digest(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], *, demanded: bool
) -> None:
    if DIGEST not in metadata and not demanded:
        return
    written, found = str(metadata.get(DIGEST)), content_sha256(tensors, metadata)
    if found != written:
        raise UserError(
            path,
            found=f"content with SHA-256 {found[:12]}…",
            expected=f"{written[:12]}…, as its metadata says",
            remedy=REMEDY,
        )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with _open(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _metadata(file)  # noqa: SIM118


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """An open safetensors file; whatever is wrong with it becomes a `UserError`."""
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
    """What `packed_metadata` packed; empty for a file that others wrote."""
    content = parse_json((file.metadata() or {}).get(_METADATA_KEY, "{}"))
    if not isinstance(content, dict):
        raise ValueError(f"metadata that are no mapping but a {type(content).__name__}")
    return content
