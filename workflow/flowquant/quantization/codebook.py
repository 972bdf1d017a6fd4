"""A quantized tensor: levels for each group of values and an index for each value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from flowquant.quantization.packing import packed_bytes


@dataclass(frozen=True)
class Codebook:
    """Values replaced by indices into levels.

    Args:
        levels: float16 or float32 [G, L], L ≤ 65,536; sorted when freshly quantized.
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
    def count(self) -> int:
        """Number of values."""
        return self.indices.numel()

    @property
    def bits(self) -> int:
        """Stored bits of one index: enough for the levels there are, at least 1."""
        return max(1, (self.levels.shape[1] - 1).bit_length())

    @property
    def stored_bits(self) -> int:
        """Bits of packed indices and levels, whole bytes."""
        index_bytes = packed_bytes(self.indices.numel(), self.bits)
        return 8 * (index_bytes + self.levels.numel() * self.levels.element_size())

    @property
    def worth_packing(self) -> bool:
        """Whether indices and levels take less room than the values they stand for."""
        return self.stored_bits < 8 * self.levels.element_size() * self.indices.numel()

    def compact(self) -> Codebook:
        """The same values without the levels that no value uses or that equal another.

        Groups with fewer used levels than the fullest one repeat their last level. Levels must be
        sorted.
        """
        count = self.levels.shape[1]
        new = torch.nn.functional.pad(self.levels.diff(dim=1) != 0, (1, 0), value=True)
        if not new.all():
            position = torch.arange(count, device=new.device)
            first = torch.where(new, position, 0).cummax(1).values.int()
            merged = Codebook(self.levels, first.gather(1, self.indices.long()), self.shape)
            return merged._without_unused()
        return self._without_unused()

    def _without_unused(self) -> Codebook:
        """The same values without the levels that no value uses."""
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


# A model's weights by name: quantized ones, and those that stayed float.
Quantized: TypeAlias = Mapping[str, Codebook | Tensor]


class Stored(Protocol):
    """What a quantized tensor says of its size, indices packed or not."""

    @property
    def stored_bits(self) -> int:
        """Bits of packed indices and levels, whole bytes."""
        ...

    @property
    def count(self) -> int:
        """Number of values."""
        ...


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


def with_levels(codebook: Codebook, dtype: torch.dtype) -> Codebook:
    """The same codebook with its levels rounded to ``dtype``.

    Raises:
        OverflowError: if a level is beyond the type's range.
    """
    levels = codebook.levels.to(dtype)
    if not levels.isfinite().all():
        raise OverflowError(f"levels up to {codebook.levels.abs().max():g} do not fit {dtype}")
    return Codebook(levels, codebook.indices, codebook.shape)


def bits_of(content: Stored | Tensor) -> int:
    """Bits that are stored for a quantized tensor or another."""
    if isinstance(content, Tensor):
        return 8 * content.element_size() * content.numel()
    return content.stored_bits


def values_of(content: Stored | Tensor) -> int:
    """How many values a quantized tensor or another holds."""
    return content.numel() if isinstance(content, Tensor) else content.count


def stored_bits(quantized: Mapping[str, Stored | Tensor]) -> int:
    """Bits that are stored for all tensors, without names and metadata."""
    return sum(bits_of(content) for content in quantized.values())


def effective_bits(quantized: Mapping[str, Stored | Tensor]) -> float:
    """Stored bits (indices, levels and whatever stayed float) ÷ number of parameters."""
    return stored_bits(quantized) / sum(values_of(content) for content in quantized.values())


def expand(content: Codebook | Tensor) -> Tensor:
    """Plain float32 values; integers stay what they are."""
    if isinstance(content, Codebook):
        return content.expand()
    return content.float() if content.is_floating_point() else content


def expand_all(quantized: Quantized) -> dict[str, Tensor]:
    """Plain float32 weights by name."""
    return {name: expand(content) for name, content in quantized.items()}
