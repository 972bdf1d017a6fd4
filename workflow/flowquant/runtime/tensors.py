"""Named tensors with metadata, as safetensors files."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowquant.runtime.errors import UserError
from flowquant.runtime.files import atomic, refused
from flowquant.runtime.header import DIGEST, METADATA_KEY, content_digest, refuse_changed


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write named tensors and JSON-able metadata as one safetensors file.

    The metadata gets ``content_sha256``, a digest of all there is, which `read_tensors` checks.

    Raises:
        UserError: as `atomic`.
    """
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    described = {**metadata, DIGEST: content_sha256(content, metadata)}
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
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    with atomic(path) as temporary:
        try:
            save_file(content, temporary, metadata=metadata)
        except SafetensorError as error:
            # Its own kind of error, even where a disk said no.
            number = re.search(r"os error (\d+)", str(error))
            refusal = OSError(int(number[1]), str(error)) if number else None
            raise (refusal and refused(path, refusal)) or error from error


def content_sha256(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> str:
    """SHA-256 of the metadata and of every tensor's name, type, shape and bytes, by name."""

    def rows() -> Iterator[tuple[str, str, list[int], Any]]:
        for name, tensor in sorted(tensors.items()):
            kind = str(tensor.dtype).removeprefix("torch.")
            content = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
            yield name, kind, list(tensor.shape), content

    return content_digest(metadata, rows())


def packed_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Metadata as the one entry of a safetensors header that holds it."""
    return {METADATA_KEY: json.dumps(metadata, sort_keys=True, separators=(",", ":"))}


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a safetensors file: its tensors (memory-mapped, on the CPU) and its metadata.

    Raises:
        UserError: if the file is missing, truncated, not safetensors, or changed since we wrote it.
    """
    with _open(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = _metadata(file)
    if DIGEST in metadata:
        refuse_changed(path, content_sha256(tensors, metadata), metadata)
    return tensors, metadata


def read_metadata(path: Path) -> dict[str, Any]:
    """Read a safetensors file's metadata; raises as `read_tensors` does."""
    with _open(path) as file:
        return _metadata(file)


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
    content: dict[str, Any] = json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))
    return content
