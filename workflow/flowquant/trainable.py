"""Quantized weights whose levels can be trained: expanded anew for every forward pass."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor

from flowquant.codebook import Codebook, Quantized
from flowquant.nearest import nearest

# Up to so many levels a level's gradient is summed under a mask, which is faster than scattering
# into few places, and always adds in the same order.
FEW_LEVELS = 16


class _Expand(torch.autograd.Function):
    """levels [R, L], codes int64 [R, n] → values [R, n]; gradients are summed level by level."""

    @staticmethod
    def forward(ctx: Any, levels: Tensor, codes: Tensor, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(codes)
        ctx.count = levels.shape[1]
        return levels.to(dtype).gather(1, codes)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        (codes,) = ctx.saved_tensors
        if ctx.count <= FEW_LEVELS:
            zero = gradient.new_zeros(())
            parts = [
                torch.where(codes == level, gradient, zero).sum(1, dtype=torch.float32)
                for level in range(ctx.count)
            ]
            return torch.stack(parts, dim=1), None, None
        sums = torch.zeros(len(codes), ctx.count, dtype=torch.float32, device=codes.device)
        return sums.scatter_add_(1, codes, gradient.float()), None, None


class TrainableLevels:
    """The codebooks of a model, stacked where their groups are alike, so that few calls do all.

    Args:
        quantized: Codebooks by name (float tensors are passed over).
        device: Where to hold them.
    """

    def __init__(self, quantized: Quantized, device: torch.device) -> None:
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

    def expand(self, levels: list[Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
        """Weights by name from levels stacked as ``self.levels`` are."""
        weights = {}
        for members, stacked, codes in zip(self.members, levels, self.codes, strict=True):
            values = _Expand.apply(stacked, codes, dtype)
            parts = values.split([groups for _, groups, _, _ in members])
            for (name, _, shape, _), part in zip(members, parts, strict=True):
                weights[name] = part.reshape(shape)
        return weights

    @torch.no_grad()
    def reassign(self, originals: dict[str, Tensor]) -> float:
        """Give every original value its nearest level; returns the share that changed."""
        changed, total = 0, 0
        for index, members in enumerate(self.members):
            levels, codes = self.levels[index], self.codes[index]
            values = torch.cat([originals[n].reshape(g, -1) for n, g, _, _ in members])
            ordered, places = levels.sort(dim=1)
            found = places.gather(1, nearest(values.to(levels.device), ordered).long())
            changed += int((found != codes).sum())
            total += codes.numel()
            # In place: the optimiser and a compiled step hold on to this very tensor.
            codes.copy_(found)
        return changed / max(1, total)

    @torch.no_grad()
    def codebooks(self) -> dict[str, Codebook]:
        """The codebooks as they stand, levels in the type they came in, on the CPU."""
        books = {}
        for members, levels, codes in zip(self.members, self.levels, self.codes, strict=True):
            sizes = [groups for _, groups, _, _ in members]
            for (name, _, shape, dtype), part, indices in zip(
                members, levels.cpu().split(sizes), codes.int().cpu().split(sizes), strict=True
            ):
                books[name] = Codebook(part.to(dtype), indices, shape)
        return books
