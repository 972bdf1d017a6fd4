"""A quantized tensor: levels for each group of values, an index for each value, and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowquant.artifacts import read_tensors, write_tensors
from flowquant.errors import UserError
from flowquant.packing import pack, unpack

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Codebook:
    """Values replaced by indices into levels.

    Args:
        levels: float [G, L], sorted in each of the G groups.
        indices: int32 [G, n], below L.
        shape: Shape of the tensor; G·n values, cut into groups in row-major order.
    """

    levels: Tensor
    indices: Tensor
    shape: tuple[int, ...]

    def expand(self) -> Tensor:
        """The quantized values, float32 ``shape``."""
        return self.levels.float().gather(1, self.indices.long()).view(self.shape)

    @property
    def bits(self) -> int:
        """Stored bits of one index: enough for the levels there are, at least 1."""
        return max(1, (self.levels.shape[1] - 1).bit_length())

    @property
    def stored_bits(self) -> int:
        """Bits of packed indices and levels, whole bytes."""
        index_bytes = -(-self.indices.numel() * self.bits // 8)
        return 8 * (index_bytes + self.levels.numel() * self.levels.element_size())

    def compact(self) -> Codebook:
        """The same values without the levels that no value uses.

        Groups with fewer used levels than the fullest one repeat their last level.
        """
        groups, count = self.levels.shape
        used = torch.zeros(groups, count, dtype=torch.bool, device=self.levels.device)
        used.scatter_(1, self.indices.long(), True)
        most = int(used.sum(1).max())
        if most == count:
            return self
        position = used.cumsum(1) - 1
        kept = (~used).int().argsort(stable=True, dim=1)[:, :most]
        last = position[:, -1:]
        slots = torch.arange(most, device=last.device).expand(groups, most)
        levels = self.levels.gather(1, kept.gather(1, torch.minimum(slots, last)))
        return Codebook(levels, position.gather(1, self.indices.long()).int(), self.shape)


def group_size(shape: tuple[int, ...], granularity: str) -> int:
    """Values that share levels: all (``tensor``), an index of axis 0 (``row``), or ``group:g``.

    One-dimensional tensors are one group under ``row``. A row that g does not divide is one group.
    """
    total = torch.Size(shape).numel()
    row = total // shape[0] if len(shape) > 1 else total
    if granularity == "tensor":
        return total
    if granularity == "row":
        return row
    size = int(granularity.removeprefix("group:"))
    return size if row % size == 0 else row


def write_quantized(
    path: Path, quantized: dict[str, Codebook | Tensor], metadata: dict[str, Any]
) -> None:
    """Write codebooks as packed indices and levels, and other tensors as they are.

    A codebook that would take more room than its float32 values is written as those values.
    See ``docs/format.md``.
    """
    tensors: dict[str, Tensor] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name, content in quantized.items():
        if isinstance(content, Codebook) and worth_packing(content):
            tensors[f"{name}.indices"] = pack(content.indices, content.bits)
            tensors[f"{name}.levels"] = content.levels
            entries[name] = {"shape": list(content.shape), "bits": content.bits}
        else:
            tensors[name] = content.expand() if isinstance(content, Codebook) else content
    write_tensors(path, tensors, {"version": FORMAT_VERSION, "packed": entries, **metadata})


def worth_packing(codebook: Codebook) -> bool:
    """Whether indices and levels take less room than float32 values."""
    return codebook.stored_bits < 32 * codebook.indices.numel()


def stored_bits(quantized: dict[str, Codebook | Tensor]) -> int:
    """Bits that `write_quantized` stores for all tensors, without names and metadata."""
    return sum(
        content.stored_bits
        if isinstance(content, Codebook) and worth_packing(content)
        else 32 * _values(content)
        for content in quantized.values()
    )


def effective_bits(quantized: dict[str, Codebook | Tensor]) -> float:
    """Stored bits (indices, levels and whatever stayed float) ÷ number of parameters."""
    return stored_bits(quantized) / sum(_values(content) for content in quantized.values())


def _values(content: Codebook | Tensor) -> int:
    return content.indices.numel() if isinstance(content, Codebook) else content.numel()


def read_quantized(path: Path) -> tuple[dict[str, Codebook | Tensor], dict[str, Any]]:
    """Read what `write_quantized` wrote: the exact codebooks and tensors, and the metadata.

    Raises:
        UserError: if the file is unreadable, of a newer version, or inconsistent.
    """
    tensors, metadata = read_tensors(path)
    if "version" not in metadata or "packed" not in metadata:
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
    quantized: dict[str, Codebook | Tensor] = {}
    for name, entry in metadata["packed"].items():
        packed, levels = (tensors.pop(f"{name}.{part}", None) for part in ("indices", "levels"))
        quantized[name] = _codebook(path, name, entry, packed, levels)
    return {**quantized, **tensors}, metadata


def _codebook(
    path: Path, name: str, entry: dict[str, Any], packed: Tensor | None, levels: Tensor | None
) -> Codebook:
    remedy = "The file was cut off or changed: delete it and run `quantize` again."
    shape, bits = tuple(entry["shape"]), entry["bits"]
    count = torch.Size(shape).numel()
    if packed is None or levels is None:
        raise UserError(
            path,
            found=f"{name} without its indices or levels",
            expected=f"{name}.indices and {name}.levels",
            remedy=remedy,
        )
    if len(packed) != -(-count * bits // 8) or levels.dim() != 2 or count % len(levels):
        raise UserError(
            path,
            found=f"{name} with {len(packed)} bytes of indices and levels {list(levels.shape)}",
            expected=f"{-(-count * bits // 8)} bytes for {count} indices of {bits} bits",
            remedy=remedy,
        )
    indices = unpack(packed, bits, count).view(len(levels), -1)
    if int(indices.max()) >= levels.shape[1]:
        raise UserError(
            path,
            found=f"index {int(indices.max())} in {name}",
            expected=f"indices below its {levels.shape[1]} levels",
            remedy=remedy,
        )
    return Codebook(levels, indices, shape)


def expand_all(quantized: dict[str, Codebook | Tensor]) -> dict[str, Tensor]:
    """Plain float32 weights by name."""
    return {
        name: content.expand() if isinstance(content, Codebook) else content.float()
        for name, content in quantized.items()
    }
