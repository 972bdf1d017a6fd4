"""Named tensors with metadata, as safetensors files, and what a reader demands of them."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from flowquant.runtime.errors import UserError, some
from flowquant.runtime.files import atomic
from flowquant.runtime.forms import fit
from flowquant.runtime.header import (
    DIGEST,
    METADATA_KEY,
    Kind,
    check_digest,
    check_version,
    content_digest,
    of_header,
    unreadable,
)

M = TypeVar("M")


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
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    described = kind.label(metadata) if kind else dict(metadata)
    described[DIGEST] = content_sha256(content, described)
    _save(path, content, packed_metadata(described))


def write_plain(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write named tensors as any program expects them, with no metadata of ours.

    Raises:
        UserError: as `atomic`.
    """
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # Hugging Face's libraries read no file that does not say this.
    _save(path, content, {"format": "pt"})


def _save(path: Path, content: dict[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors.torch import save

    with atomic(path) as temporary:
        # `save_file` would make a temporary file of its own, which a killed process leaves.
        temporary.write_bytes(save(content, metadata))


def content_sha256(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """SHA-256 of the metadata and of every tensor's name, type, shape and bytes, by name."""

    def rows() -> Iterator[tuple[str, str, list[int], Any]]:
        for name, tensor in sorted(tensors.items()):
            content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
            yield name, _type(tensor), list(tensor.shape), content

    return content_digest(metadata, rows())


def packed_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Metadata as the one entry of a safetensors header that holds it."""
    return {METADATA_KEY: json.dumps(metadata, sort_keys=True, separators=(",", ":"))}


def read_file(path: Path, kind: Kind[M]) -> Content[M]:
    """Read a file of a kind: its tensors (memory-mapped, on the CPU) and its metadata.

    A file that does not say its kind, as they were written once, is read if all else fits.

    Raises:
        UserError: if it is unreadable, something else, of another version, changed since it was
            written, or holds other tensors than it should.
    """
    tensors, metadata = _read(path)
    check_version(path, metadata, kind)
    _check_digest(path, tensors, metadata, demanded=kind.demands_digest(metadata))
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


def form_of(tensor: Tensor) -> str:
    """The form of a tensor, as `check_tensors` takes it."""
    return f"{_type(tensor)} {list(tensor.shape)}"


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


def _check_digest(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], *, demanded: bool
) -> None:
    if DIGEST in metadata or demanded:
        check_digest(path, content_sha256(tensors, metadata), metadata)


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
        raise unreadable(path, error) from error


def _metadata(file: Any) -> dict[str, Any]:
    return of_header(file.metadata() or {})
