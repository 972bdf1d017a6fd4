"""A quantized tensor: levels for each group of values and an index for each value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from flowquant.config.method import CodingName
from flowquant.quantization.coding import MOST_LEVELS, Coded, encode
from flowquant.quantization.packing import packed_bytes


@dataclass(frozen=True)
class Codebook:
    """Values replaced by indices into levels, each for d neighbours at once, and perhaps scaled.

    Args:
        levels: float16 or float32 [G, L], sorted when freshly quantized, or vectors [G, L, d] in
            no order; L ≤ 65,536.
        indices: int32 [G, n ÷ d], below L.
        shape: Shape of the tensor; G·n values, cut into groups in row-major order.
        coding: How indices are stored, where that is smaller than packing them.
        scales: Factors of S consecutive parts of the tensor alike in size, of the levels' type [S];
            d divides a part.
        common: Whether the levels are those of all tensors of the network for which this is so: one
            group, stored once.
    """

    levels: Tensor
    indices: Tensor
    shape: tuple[int, ...]
    coding: CodingName = "none"
    scales: Tensor | None = None
    common: bool = False

    def expand(self) -> Tensor:
        """The quantized values, float32 ``shape``: each level times its scale, in float32."""
        values = chosen_levels(self.levels.float(), self.indices.long())
        if self.scales is not None:
            values = values.view(len(self.scales), -1) * self.scales.float()[:, None]
        return values.view(self.shape)

    @property
    def count(self) -> int:
        """Number of values."""
        return self.indices.numel() * self.dimension

    @property
    def dimension(self) -> int:
        """Values that an index stands for, d."""
        return dimension(self.levels)

    @property
    def bits(self) -> int:
        """Stored bits of one index: enough for the levels there are, at least 1."""
        return max(1, (self.levels.shape[1] - 1).bit_length())

    @cached_property
    def coded(self) -> Coded | None:
        """The indices entropy-coded, if that is asked for and smaller than packing them."""
        count = self.levels.shape[1]
        if self.coding == "none" or count > MOST_LEVELS:
            return None
        coded = encode(self.indices, count)
        return coded if coded.bytes < packed_bytes(self.indices.numel(), self.bits) else None

    @property
    def stored_bits(self) -> int:
        """Bits of packed or coded indices and of levels that are not common, whole bytes."""
        coded, packed = self.coded, packed_bytes(self.indices.numel(), self.bits)
        index_bytes = packed if coded is None else coded.bytes
        own_levels = None if self.common else self.levels
        return 8 * index_bytes + bits_of(own_levels) + bits_of(self.scales)

    def compact(self) -> Codebook:
        """The same values without the levels that no value uses or that equal another.

        Groups with fewer used levels than the fullest one repeat their last level. Levels must be
        sorted; vectors are left as they are.
        """
        if self.dimension > 1:
            return self
        count = self.levels.shape[1]
        new = torch.nn.functional.pad(self.levels.diff(dim=1) != 0, (1, 0), value=True)
        if not new.all():
            position = torch.arange(count, device=new.device)
            first = torch.where(new, position, 0).cummax(1).values.int()
            merged = replace(self, indices=first.gather(1, self.indices.long()))
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
        indices = position.gather(1, self.indices.long()).int()
        return replace(self, levels=levels, indices=indices)


# A model's weights by name: quantized ones, and those that stayed float.
Quantized: TypeAlias = Mapping[str, Codebook | Tensor]


class Stored(Protocol):
    """What a quantized tensor says of its size, indices packed or not."""

    @property
    def stored_bits(self) -> int:
        """Bits of packed or coded indices and of levels that are not common, whole bytes."""
        ...

    @property
    def count(self) -> int:
        """Number of values."""
        ...

    @property
    def levels(self) -> Tensor:
        """Levels or vectors."""
        ...

    @property
    def common(self) -> bool:
        """Whether levels are those of all tensors for which this is so."""
        ...


def group_size(shape: tuple[int, ...], granularity: str) -> int:
    """Values that share levels: all (``tensor``, ``scaled``, ``network``), a row, or ``group:g``.

    A row that g does not divide is one group.
    """
    total = torch.Size(shape).numel()
    row = row_size(shape)
    if granularity in ("tensor", "scaled", "network"):
        return total
    if granularity == "row":
        return row
    size = int(granularity.removeprefix("group:"))
    return size if row % size == 0 else row


def row_size(shape: tuple[int, ...]) -> int:
    """Values of an index of axis 0; a tensor of one dimension is a row."""
    total = torch.Size(shape).numel()
    return total // shape[0] if len(shape) > 1 else total


def with_levels(codebook: Codebook, dtype: torch.dtype) -> Codebook:
    """The same codebook with its levels and scales rounded to ``dtype``.

    Raises:
        OverflowError: if one of them is beyond the type's range.
    """
    levels = _rounded("levels", codebook.levels, dtype)
    scales = None if codebook.scales is None else _rounded("scales", codebook.scales, dtype)
    return replace(codebook, levels=levels, scales=scales)


def _rounded(what: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    rounded = tensor.to(dtype)
    if not rounded.isfinite().all():
        raise OverflowError(f"{what} up to {tensor.abs().max():g} do not fit {dtype}")
    return rounded


def chosen_levels(levels: Tensor, indices: Tensor) -> Tensor:
    """Values [G, n] by levels [G, L] or [G, L, d] and indices int64 [G, n ÷ d]."""
    if levels.dim() == 2:
        return levels.gather(1, indices)
    d = levels.shape[2]
    return levels.gather(1, indices[..., None].expand(-1, -1, d)).flatten(1)


def dimension(levels: Tensor) -> int:
    """Values that an index into levels [G, L] or [G, L, d] stands for."""
    return levels.shape[2] if levels.dim() == 3 else 1


def bits_of(content: Stored | Tensor | None) -> int:
    """Bits that are stored for a quantized tensor or another, or for what is not there."""
    if content is None:
        return 0
    if isinstance(content, Tensor):
        return 8 * content.element_size() * content.numel()
    return content.stored_bits


def values_of(content: Stored | Tensor) -> int:
    """How many values a quantized tensor or another holds."""
    return content.numel() if isinstance(content, Tensor) else content.count


def stored_bits(quantized: Mapping[str, Stored | Tensor]) -> int:
    """Bits that are stored for all tensors, without names and metadata; common levels once."""
    books = (content for content in quantized.values() if not isinstance(content, Tensor))
    common = next((book.levels for book in books if book.common), None)
    return bits_of(common) + sum(bits_of(content) for content in quantized.values())


def effective_bits(quantized: Mapping[str, Stored | Tensor]) -> float:
    """Stored bits (indices, levels and whatever stayed float) ÷ number of parameters."""
    return stored_bits(quantized) / sum(values_of(content) for content in quantized.values())


def worthwhile(books: Mapping[str, Codebook]) -> dict[str, Codebook | Tensor]:
    """Codebooks as they are stored: as their values, in the levels' type, where these take less.

    Either all have common levels, which are stored all as codebooks or all as values, or none has.
    """
    common = any(book.common for book in books.values())
    parts = [books] if common else [{name: book} for name, book in books.items()]
    contents: dict[str, Codebook | Tensor] = {}
    for part in parts:
        plain = sum(8 * book.levels.element_size() * book.count for book in part.values())
        worth = stored_bits(part) < plain
        for name, book in part.items():
            contents[name] = book if worth else book.expand().to(book.levels.dtype)
    return contents


def expand(content: Codebook | Tensor) -> Tensor:
    """Plain float32 values; integers stay what they are."""
    if isinstance(content, Codebook):
        return content.expand()
    return content.float() if content.is_floating_point() else content


def expand_all(quantized: Quantized) -> dict[str, Tensor]:
    """Plain float32 weights by name."""
    return {name: expand(content) for name, content in quantized.items()}
