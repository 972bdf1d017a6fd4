"""Quantized weights that can be trained: expanded anew for every forward pass."""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowquant.config.method import CodingName
from flowquant.quantization.codebook import Codebook, Quantized, chosen_levels, dimension
from flowquant.quantization.search import nearest, nearest_vectors
from flowquant.training.rate import entropy, soft_shares, temperatures

# Up to so many levels a level's gradient is summed under a mask, which is faster than scattering
# into few places, and always adds in the same order.
FEW_LEVELS = 32


class _Expand(torch.autograd.Function):
    """levels [R, L(, d)], indices int64 [R, n ÷ d], perhaps values [R, n] → levels taken [R, n].

    A level's gradient is the sum over its values; a value's is passed straight through, as if it
    had not been rounded to its level (Bengio et al. 2013, arXiv 1308.3432).
    """

    @staticmethod
    def forward(ctx: Any, levels: Tensor, indices: Tensor, values: Tensor | None) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.shape = levels.shape
        return chosen_levels(levels, indices)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor | None]:
        (gradient,) = gradients
        (indices,) = ctx.saved_tensors
        through = gradient if ctx.needs_input_grad[2] else None
        if len(ctx.shape) == 2 and ctx.shape[1] <= FEW_LEVELS:
            zero = gradient.new_zeros(())
            parts = [
                torch.where(indices == level, gradient, zero).sum(1)
                for level in range(ctx.shape[1])
            ]
            return torch.stack(parts, dim=1), None, through
        sums = torch.zeros(ctx.shape, device=indices.device)
        if len(ctx.shape) == 3:
            gradient = gradient.unflatten(1, (-1, ctx.shape[2]))
            indices = indices[..., None].expand_as(gradient)
        return sums.scatter_add_(1, indices, gradient), None, through


class Member(NamedTuple):
    """A codebook in a stack."""

    name: str
    groups: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    coding: CodingName
    common: bool


class TrainableLevels:
    """The codebooks of a model, stacked where their groups are alike, so that few calls do all.

    Each value keeps its level; or, where originals are given, the values are trained too, starting
    from the originals, and each takes the level that is nearest at the time.

    Args:
        quantized: Codebooks by name (float tensors are passed over).
        device: Where to hold them.
        originals: The weights that were quantized, by name, to train them.

    Attributes: lists with an entry for each stack, of R groups of n values with L levels; and
        tables: What levels there are, each tensor once.
        members: Whose groups they are, in order.
        levels: float32 [R, L], or vectors [R, L, d]; common ones [1, …], one tensor for all stacks.
        indices: The level of each value or d of them, int64 [R, n ÷ d].
        scales: Of parts of each group, float32 [R, S], or [0, 0] where there are none.
        values: Trained values, float32 [R, n]; an empty list if they are not trained.
    """

    def __init__(
        self,
        quantized: Quantized,
        device: torch.device,
        originals: Mapping[str, Tensor] | None = None,
    ) -> None:
        alike: dict[Hashable, list[tuple[str, Codebook]]] = defaultdict(list)
        for name, content in quantized.items():
            if isinstance(content, Codebook):
                scales = 0 if content.scales is None else len(content.scales)
                lengths = content.indices.shape[1], content.levels.shape[1:], scales
                alike[lengths, content.common].append((name, content))
        self.members = [
            [
                Member(
                    *(name, len(book.levels), book.shape, book.levels.dtype, book.coding),
                    common=book.common,
                )
                for name, book in books
            ]
            for books in alike.values()
        ]
        self.indices = [
            torch.cat([book.indices for _, book in books]).long().to(device)
            for books in alike.values()
        ]
        self.levels: list[Tensor] = []
        tables: dict[Hashable, Tensor] = {}
        for form, books in alike.items():
            common = books[0][1].common
            key = "common" if common else form
            if key not in tables:
                parts = [book.levels.float() for _, book in (books[:1] if common else books)]
                tables[key] = torch.cat(parts).to(device).requires_grad_()
            self.levels.append(tables[key])
        self.tables = list(tables.values())
        self.scales = [
            torch.stack([_scales(book) for _, book in books]).to(device).requires_grad_()
            for books in alike.values()
        ]
        self.values: list[Tensor] = []
        self._taken: list[Tensor] = []
        self._temperatures: list[Tensor] = []
        if originals is not None:
            self.values = [stack.requires_grad_() for stack in self._stacked(originals)]
            self._temperatures = [
                temperatures(_unscaled(values.detach(), own.detach()), levels.detach())
                for values, levels, own in zip(self.values, self.levels, self.scales, strict=True)
            ]

    def _stacked(self, originals: Mapping[str, Tensor]) -> list[Tensor]:
        return [
            torch.cat([originals[m.name].reshape(m.groups, -1) for m in members]).to(levels.device)
            for members, levels in zip(self.members, self.levels, strict=True)
        ]

    def expand(self) -> dict[str, Tensor]:
        """Weights by name, float32, with gradients to levels and trained values."""
        weights, self._taken = {}, []
        for index, members in enumerate(self.members):
            indices, scales, values = self.indices[index], self.scales[index], None
            levels = _each(self.levels[index], indices)
            if self.values:
                values = _unscaled(self.values[index], scales.detach())
                if levels.dim() == 2:
                    levels = levels.sort(dim=1).values
                indices = _nearest(values.detach(), levels.detach())
            expanded = _Expand.apply(levels, indices, values)
            if scales.numel():
                expanded = _parts(expanded, scales).mul(scales[..., None]).flatten(1)
            if values is not None:
                self._taken.append(expanded.detach())
            parts = expanded.split([member.groups for member in members])
            for member, part in zip(members, parts, strict=True):
                weights[member.name] = part.reshape(member.shape)
        return weights

    def rate(self) -> Tensor:
        """Bits a value that entropy-coded indices of trained values would take, softly.

        A tensor's indices have one table, whatever its groups.
        """
        bits, count = torch.zeros((), device=self.levels[0].device), 0
        stacks = zip(self.members, self.values, self.levels, self.scales, strict=True)
        for (members, values, levels, scales), temperature in zip(
            stacks, self._temperatures, strict=True
        ):
            shares = soft_shares(_unscaled(values, scales.detach()), levels, temperature)
            parts = shares.split([member.groups for member in members])
            each = entropy(torch.stack([part.mean(0) for part in parts]))
            indices = values.shape[1] // dimension(levels)
            weighed = [own * member.groups for own, member in zip(each, members, strict=True)]
            bits = bits + torch.stack(weighed).sum() * indices
            count += values.numel()
        return bits / count

    @torch.no_grad()
    def damp(self, share: Tensor) -> None:
        """Move trained values by a share of the way to the levels they took last.

        Else values near the middle of two levels jump to and fro, and the loss with them
        (Nagel et al., ICML 2022, who add the distance to the loss).
        """
        for values, taken in zip(self.values, self._taken, strict=True):
            values.lerp_(taken, share)

    @torch.no_grad()
    def reassign(self, originals: Mapping[str, Tensor]) -> float:
        """Give every original value its nearest level; returns the share that changed."""
        return self._assign(self._stacked(originals))

    @torch.no_grad()
    def _assign(self, stacks: list[Tensor]) -> float:
        changed, total = 0, 0
        stacked = zip(stacks, self.levels, self.indices, self.scales, strict=True)
        for values, levels, indices, scales in stacked:
            found = _nearest(_unscaled(values, scales), _each(levels, indices))
            changed += int((found != indices).sum())
            total += indices.numel()
            # In place: a captured step holds on to this very tensor.
            indices.copy_(found)
        return changed / max(1, total)

    @torch.no_grad()
    def codebooks(self) -> dict[str, Codebook]:
        """The codebooks as they stand, levels in the type they came in, on the CPU."""
        if self.values:
            self._assign(self.values)
        books = {}
        for members, scales, held, chosen in zip(
            self.members, self.scales, self.levels, self.indices, strict=True
        ):
            sizes = [member.groups for member in members]
            parts = [stack.cpu().split(sizes) for stack in (_each(held, chosen), chosen)]
            # A codebook with scales is one group.
            own = scales.cpu() if scales.numel() else [None] * len(members)
            for member, levels, indices, scale in zip(members, *parts, own, strict=True):
                books[member.name] = Codebook(
                    levels.to(member.dtype),
                    indices.int(),
                    member.shape,
                    member.coding,
                    None if scale is None else scale.to(member.dtype),
                    member.common,
                )
        return books


def _each(levels: Tensor, indices: Tensor) -> Tensor:
    """Levels of each of the groups that have indices, [R, …], whether own or common ones [1, …]."""
    return levels.expand(len(indices), *levels.shape[1:])


def _scales(book: Codebook) -> Tensor:
    return torch.empty(0) if book.scales is None else book.scales.float()


def _parts(values: Tensor, scales: Tensor) -> Tensor:
    """Groups of values [R, n] as the parts [R, S, n ÷ S] that have a scale each."""
    return values.unflatten(1, (scales.shape[1], -1))


def _unscaled(values: Tensor, scales: Tensor) -> Tensor:
    """Values [R, n] by their scales, as levels stand for them."""
    if not scales.numel():
        return values
    return _parts(values, scales).div(torch.where(scales == 0, 1.0, scales)[..., None]).flatten(1)


def _nearest(values: Tensor, levels: Tensor) -> Tensor:
    """The nearest level of each value, or vector of d of them, int64 [R, n ÷ d]."""
    if levels.dim() == 3:
        return nearest_vectors(values.unflatten(1, (-1, levels.shape[2])), levels).long()
    ordered, places = levels.sort(dim=1)
    return places.gather(1, nearest(values, ordered).long())
