"""Quantized weights that can be trained: expanded anew for every forward pass."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowquant.config.method import CodingName
from flowquant.quantization.codebook import Codebook, Quantized
from flowquant.quantization.search import nearest

# Up to so many levels a level's gradient is summed under a mask, which is faster than scattering
# into few places, and always adds in the same order.
FEW_LEVELS = 16


class _Expand(torch.autograd.Function):
    """levels [R, L], indices int64 [R, n], perhaps values [R, n] → each value's level [R, n].

    A level's gradient is the sum over its values; a value's is passed straight through, as if it
    had not been rounded to its level (Bengio et al. 2013, arXiv 1308.3432).
    """

    @staticmethod
    def forward(ctx: Any, levels: Tensor, indices: Tensor, values: Tensor | None) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.count = levels.shape[1]
        return levels.gather(1, indices)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor | None]:
        (gradient,) = gradients
        (indices,) = ctx.saved_tensors
        through = gradient if ctx.needs_input_grad[2] else None
        if ctx.count <= FEW_LEVELS:
            zero = gradient.new_zeros(())
            parts = [
                torch.where(indices == level, gradient, zero).sum(1) for level in range(ctx.count)
            ]
            return torch.stack(parts, dim=1), None, through
        sums = torch.zeros(len(indices), ctx.count, device=indices.device)
        return sums.scatter_add_(1, indices, gradient), None, through


class Member(NamedTuple):
    """A codebook in a stack."""

    name: str
    groups: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    coding: CodingName


class TrainableLevels:
    """The codebooks of a model, stacked where their groups are alike, so that few calls do all.

    Each value keeps its level; or, where originals are given, the values are trained too, starting
    from the originals, and each takes the level that is nearest at the time.

    Args:
        quantized: Codebooks by name (float tensors are passed over).
        device: Where to hold them.
        originals: The weights that were quantized, by name, to train them.

    Attributes: lists with an entry for each stack, of R groups of n values with L levels.
        members: Whose groups they are, in order.
        levels: float32 [R, L].
        indices: The level of each value, int64 [R, n].
        values: Trained values, float32 [R, n]; an empty list if they are not trained.
    """

    def __init__(
        self,
        quantized: Quantized,
        device: torch.device,
        originals: Mapping[str, Tensor] | None = None,
    ) -> None:
        alike: dict[tuple[int, int], list[tuple[str, Codebook]]] = defaultdict(list)
        for name, content in quantized.items():
            if isinstance(content, Codebook):
                alike[content.indices.shape[1], content.levels.shape[1]].append((name, content))
        self.members = [
            [
                Member(name, len(book.levels), book.shape, book.levels.dtype, book.coding)
                for name, book in books
            ]
            for books in alike.values()
        ]
        self.indices = [
            torch.cat([book.indices for _, book in books]).long().to(device)
            for books in alike.values()
        ]
        self.levels = [
            torch.cat([book.levels.float() for _, book in books]).to(device).requires_grad_()
            for books in alike.values()
        ]
        self.values: list[Tensor] = []
        self._taken: list[Tensor] = []
        if originals is not None:
            self.values = [stack.requires_grad_() for stack in self._stacked(originals)]

    def _stacked(self, originals: Mapping[str, Tensor]) -> list[Tensor]:
        return [
            torch.cat([originals[m.name].reshape(m.groups, -1) for m in members]).to(levels.device)
            for members, levels in zip(self.members, self.levels, strict=True)
        ]

    def expand(self) -> dict[str, Tensor]:
        """Weights by name, float32, with gradients to levels and trained values."""
        weights, self._taken = {}, []
        for index, members in enumerate(self.members):
            levels, indices, values = self.levels[index], self.indices[index], None
            if self.values:
                values, levels = self.values[index], levels.sort(dim=1).values
                indices = nearest(values.detach(), levels.detach()).long()
            expanded = _Expand.apply(levels, indices, values)
            if values is not None:
                self._taken.append(expanded.detach())
            parts = expanded.split([member.groups for member in members])
            for member, part in zip(members, parts, strict=True):
                weights[member.name] = part.reshape(member.shape)
        return weights

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
        for values, levels, indices in zip(stacks, self.levels, self.indices, strict=True):
            ordered, places = levels.sort(dim=1)
            found = places.gather(1, nearest(values, ordered).long())
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
        for members, *stacks in zip(self.members, self.levels, self.indices, strict=True):
            sizes = [member.groups for member in members]
            parts = [stack.cpu().split(sizes) for stack in stacks]
            for member, levels, indices in zip(members, *parts, strict=True):
                books[member.name] = Codebook(
                    levels.to(member.dtype), indices.int(), member.shape, member.coding
                )
        return books
