"""The packed artefact: a quantized model as one safetensors file. See ``docs/format.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowquant.quantization.codebook import Codebook, effective_bits, expand
from flowquant.quantization.packing import pack, packed_bytes, unpack
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import read_tensors, write_tensors

FORMAT_VERSION = 1
REMEDY = "The file was cut off or changed: delete it and run `quantize` again."


@dataclass(frozen=True)
class PackedTensor:
    """A codebook as it lies in the file.

    Args:
        packed: uint8 [⌈n·bits / 8⌉], indices side by side.
        levels: float16 or float32 [G, L].
        bits: Width of an index.
        shape: Shape of the tensor.
    """

    packed: Tensor
    levels: Tensor
    bits: int
    shape: tuple[int, ...]

    @classmethod
    def of(cls, codebook: Codebook) -> PackedTensor:
        """A codebook, packed."""
        packed = pack(codebook.indices, codebook.bits)
        return cls(packed, codebook.levels, codebook.bits, codebook.shape)

    @property
    def count(self) -> int:
        """Number of values."""
        return torch.Size(self.shape).numel()

    @property
    def stored_bits(self) -> int:
        """Bits of packed indices and levels."""
        return 8 * (self.packed.numel() + self.levels.numel() * self.levels.element_size())

    def unpack(self) -> Codebook:
        """The codebook."""
        indices = unpack(self.packed, self.bits, self.count).view(len(self.levels), -1)
        return Codebook(self.levels, indices, self.shape)


def values(content: PackedTensor | Tensor) -> Tensor:
    """Plain float32 values; integers stay what they are."""
    return expand(content.unpack() if isinstance(content, PackedTensor) else content)


def write_quantized(
    path: Path,
    quantized: Mapping[str, Codebook | PackedTensor | Tensor],
    metadata: Mapping[str, Any],
) -> None:
    """Write codebooks as packed indices and levels, and other tensors as they are.

    ``metadata`` must be JSON-able; the format's version, effective bits and a digest of the whole
    content are added to it.
    """
    tensors: dict[str, Tensor] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name, content in quantized.items():
        if isinstance(content, Tensor):
            tensors[name] = content
            continue
        packed = PackedTensor.of(content) if isinstance(content, Codebook) else content
        tensors[f"{name}.indices"], tensors[f"{name}.levels"] = packed.packed, packed.levels
        entries[name] = {"shape": list(packed.shape), "bits": packed.bits}
    described = {
        "version": FORMAT_VERSION,
        "packed": entries,
        "effective_bits": effective_bits(quantized),
        **metadata,
    }
    write_tensors(path, tensors, described)


def read_packed(path: Path) -> tuple[dict[str, PackedTensor | Tensor], dict[str, Any]]:
    """Read what `write_quantized` wrote, indices still packed, and the metadata.

    Raises:
        UserError: if the file is unreadable, of a newer version, changed or inconsistent.
    """
    tensors, metadata = read_tensors(path)
    if not {"version", "packed", "content_sha256"} <= metadata.keys():
        raise UserError(
            path,
            found="tensors without a quantized model's metadata",
            expected="a file written by `quantize`",
            remedy="Check the path; the format is described in docs/format.md.",
        )
    if metadata["version"] > FORMAT_VERSION:
        raise UserError(
            path,
            found=f"format version {metadata['version']}",
            expected=f"version {FORMAT_VERSION} or older",
            remedy="Update flowquant to read this file.",
        )
    packed: dict[str, PackedTensor | Tensor] = {}
    for name, entry in metadata["packed"].items():
        parts = [tensors.pop(f"{name}.{part}", None) for part in ("indices", "levels")]
        packed[name] = _checked(path, name, entry, *parts)
    return {**packed, **tensors}, metadata


def _checked(
    path: Path, name: str, entry: dict[str, Any], packed: Tensor | None, levels: Tensor | None
) -> PackedTensor:
    """A tensor of the file, after checking that its parts fit together."""
    if packed is None or levels is None:
        raise UserError(
            path,
            found=f"{name} without its indices or levels",
            expected=f"{name}.indices and {name}.levels",
            remedy=REMEDY,
        )
    shape, bits = tuple(entry["shape"]), entry["bits"]
    count = torch.Size(shape).numel()
    wanted = packed_bytes(count, bits)
    if (
        packed.dtype != torch.uint8
        or len(packed) != wanted
        or levels.dim() != 2
        or count % len(levels)
    ):
        raise UserError(
            path,
            found=f"{name} with {len(packed)} bytes of indices and levels {list(levels.shape)}",
            expected=f"{wanted} bytes for {count} indices of {bits} bits",
            remedy=REMEDY,
        )
    content = PackedTensor(packed, levels, bits, shape)
    # With a level for every index of this width, no index can be too large.
    available = levels.shape[1]
    if available < 2**bits and (most := int(content.unpack().indices.max())) >= available:
        raise UserError(
            path,
            found=f"index {most} in {name}",
            expected=f"indices below its {available} levels",
            remedy=REMEDY,
        )
    return content


def read_quantized(path: Path) -> tuple[dict[str, Codebook | Tensor], dict[str, Any]]:
    """Read what `write_quantized` wrote: the exact codebooks and tensors, and the metadata.

    Raises:
        UserError: as `read_packed`.
    """
    packed, metadata = read_packed(path)
    return {
        name: content.unpack() if isinstance(content, PackedTensor) else content
        for name, content in packed.items()
    }, metadata
