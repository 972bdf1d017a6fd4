"""Quantized weights that can be trained: expanded anew for every forward pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowquant.quantization.codebook import Codebook, Quantized
from flowquant.quantization.search import nearest

# Up to so many levels a level's gradient is summed under a mask, which is faster than scattering
# into few places, and always adds in the same order.
FEW_LEVELS = 16


class _Expand(torch.autograd.Function):
    """levels [R, L], codes int64 [R, n], perhaps values [R, n] → each value's level [R, n].

    A level's gradient is the sum over its values; a value's is passed straight through, as if it
    had not been rounded to its level (Bengio et al. 2013, arXiv 1308.3432).
    """

    @staticmethod
    def forward(ctx: Any, levels: Tensor, codes: Tensor, values: Tensor | None) -> Tensor:
        ctx.save_for_backward(codes)
        ctx.count = levels.shape[1]
        return levels.gather(1, codes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, Tensor | None]:
        (gradient,) = gradients
        (codes,) = ctx.saved_tensors
        through = gradient if ctx.needs_input_grad[2] else None
        if ctx.count <= FEW_LEVELS:
            zero = gradient.new_zeros(())
            parts = [
                torch.where(codes == level, gradient, zero).sum(1) for level in range(ctx.count)
            ]
            return torch.stack(parts, dim=1), None, through
        sums = torch.zeros(len(codes), ctx.count, device=codes.device)
        return sums.scatter_add_(1, codes, gradient), None, through


class TrainableLevels:
    """The codebooks of a model, stacked where their groups are alike, so that few calls do all.

    Each value keeps its level; or, where originals are given, the values are trained too, from
    those on, and each takes the level that is nearest at the time.

    Args:
        quantized: Codebooks by name (float tensors are passed over).
        device: Where to hold them.
        originals: The weights that were quantized, by name, to train them.
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
            [(name, len(book.levels), book.shape, book.levels.dtype) for name, book in books]
            for books in alike.values()
        ]
        self.codes = [
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
            self.values = [
                self._stacked(index, originals).clone().requires_grad_()
                for index in range(len(self.members))
            ]

    def _stacked(self, index: int, originals: Mapping[str, Tensor]) -> Tensor:
        parts = [originals[name].reshape(g, -1) for name, g, _, _ in self.members[index]]
        return torch.cat(parts).to(self.levels[index].device)

    def expand(self) -> dict[str, Tensor]:
        """Weights by name, float32, with gradients to levels and trained values."""
        weights, self._taken = {}, []
        for index, members in enumerate(self.members):
            levels, codes, values = self.levels[index], self.codes[index], None
            if self.values:
                values, levels = self.values[index], levels.sort(dim=1).values
                codes = nearest(values.detach(), levels.detach()).long()
            expanded = _Expand.apply(levels, codes, values)
            if values is not None:
                self._taken.append(expanded.detach())
            parts = expanded.split([groups for _, groups, _, _ in members])
            for (name, _, shape, _), part in zip(members, parts, strict=True):
                weights[name] = part.reshape(shape)
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
        return self._assign([self._stacked(i, originals) for i in range(len(self.members))])

    @torch.no_grad()
    def _assign(self, stacks: list[Tensor]) -> float:
        changed, total = 0, 0
        for values, levels, codes in zip(stacks, self.levels, self.codes, strict=True):
            ordered, places = levels.sort(dim=1)
            found = places.gather(1, nearest(values, ordered).long())
            changed += int((found != codes).sum())
            total += codes.numel()
            # In place: a captured step holds on to this very tensor.
            codes.copy_(found)
        return changed / max(1, total)

    @torch.no_grad()
    def codebooks(self) -> dict[str, Codebook]:
        """The codebooks as they stand, levels in the type they came in, on the CPU."""
        if self.values:
            self._assign(self.values)
        books = {}
        for members, levels, codes in zip(self.members, self.levels, self.codes, strict=True):
            sizes = [groups for _, groups, _, _ in members]
            for (name, _, shape, dtype), part, indices in zip(
                members, levels.cpu().split(sizes), codes.int().cpu().split(sizes), strict=True
            ):
                books[name] = Codebook(part.to(dtype), indices, shape)
        return books
