"""Weights rounded to e4m3, one input after another, each after the errors of those before it.

So errors make up for one another, in the inputs that were seen (GPTQ, arXiv 2210.17323).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from flowquant.models.damping import IndefiniteError, damped, upper_factor
from flowquant.models.gram import Gram

E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max
# Inputs after which the errors are carried to all others by one matrix product.
BLOCK = 64
# Of the inputs' mean square, added to each: what was seen is not all there is.
DAMPING = 0.01


def power_of_two(largest: float) -> float:
    """The one by which values up to ``largest`` fit e4m3."""
    return 2.0 ** math.ceil(math.log2(largest / LARGEST)) if largest > 0 else 1.0


class Covariance:
    """Of inputs [n], float32."""

    def __init__(self, n: int, device: torch.device) -> None:
        self._count = 0
        self._sum = torch.zeros(n, device=device)
        self._products = Gram(n, device)

    def add(self, rows: Tensor) -> None:
        """Add inputs [m, n]."""
        rows = rows.float()
        self._count += len(rows)
        self._sum += rows.sum(0)
        self._products.add(rows)

    @property
    def value(self) -> Tensor:
        """[n, n]; 0 of no inputs."""
        count = max(self._count, 1)
        mean = self._sum / count
        return self._products.total / count - torch.outer(mean, mean)


def rounded(weight: Tensor, by: float) -> Tensor:
    """A weight ÷ ``by`` as e4m3, each value the nearest."""
    return _nearest(weight / by)


def _nearest(values: Tensor) -> Tensor:
    return values.clamp(-LARGEST, LARGEST).to(E4M3)


def rounded_in_order(
    weights: Sequence[Tensor], by: Sequence[float], covariances: Sequence[Tensor]
) -> list[Tensor]:
    """Weights ÷ ``by`` as e4m3, so that their products with inputs change least but in the mean.

    Where a covariance is none, values are the nearest.

    Args:
        weights: Of one shape [out, in], float32; all are rounded side by side.
        by: Of each, what fits it into e4m3.
        covariances: Of each weight's inputs, [in, in].
    """
    # Inputs that vary most come first: more are left to make up for their errors.
    orders = [covariance.diagonal().argsort(descending=True) for covariance in covariances]
    # Inputs before outputs: what is rounded together lies together.
    values = torch.stack([w.T[o] / b for w, b, o in zip(weights, by, orders, strict=True)])
    factor = torch.stack([_carried(c[o][:, o]) for c, o in zip(covariances, orders, strict=True)])
    errors, found = torch.zeros_like(values), torch.empty_like(values, dtype=E4M3)
    for start in range(0, values.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        inner, own = factor[:, part, part], errors[:, part]
        wanted = torch.baddbmm(values[:, part], factor[:, part, :start], errors[:, :start])
        for j in range(wanted.shape[1]):
            row = torch.baddbmm(wanted[:, j : j + 1], inner[:, j : j + 1, :j], own[:, :j])
            found[:, start + j] = _nearest(row[:, 0])
            own[:, j] = values[:, start + j] - found[:, start + j].float()
    # PyTorch picks no rows of e4m3.
    laid = (w.view(torch.uint8)[o.argsort()] for w, o in zip(found, orders, strict=True))
    return [each.T.contiguous().view(E4M3) for each in laid]


def _carried(covariance: Tensor) -> Tensor:
    """What the error of an input, by column, adds to those after it, by row; [n, n]."""
    # e·C·eᵀ is |e·U|² for C = U·Uᵀ: a sum of squares, each of one error and those before it.
    try:
        upper = upper_factor(damped(covariance, DAMPING).double())
    except IndefiniteError:
        return torch.zeros_like(covariance)
    return (upper / upper.diagonal()).triu(1).T.float()
