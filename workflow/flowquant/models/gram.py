"""Sums of x·xᵀ over many inputs x, which are symmetric: half of them is computed."""

from __future__ import annotations

import torch
from torch import Tensor

# Rows of a sum that one product makes, from the diagonal on: few enough to leave out nearly half.
BLOCK = 192


class Gram:
    """Σ x·xᵀ, float32 [n, n]."""

    def __init__(self, n: int, device: torch.device) -> None:
        self._upper = torch.zeros(n, n, device=device)

    def add(self, rows: Tensor) -> None:
        """Add that of inputs [m, n]."""
        for start in range(0, len(self._upper), BLOCK):
            part = rows[:, start : start + BLOCK]
            self._upper[start : start + BLOCK, start:].addmm_(part.T, rows[:, start:])

    @property
    def total(self) -> Tensor:
        """The sum so far."""
        upper = self._upper.triu()
        return upper + upper.triu(1).T
