"""Systems of linear equations, solved approximately by what their matrices make of vectors."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradients(
    applied: Callable[[Tensor], Tensor],
    right: Tensor,
    diagonal: Tensor,
    steps: int,
    axis: int | tuple[int, ...] | None = None,
) -> Tensor:
    """What positive definite matrices make ``right`` of: exact after as many steps as it is long.

    Args:
        applied: What the matrices make of vectors of the form of ``right``.
        right: The vectors wanted, of several systems side by side.
        diagonal: About the matrices' own, in the form of ``right``.
        steps: How often ``applied`` is called.
        axis: Where the values of one system lie; None: all are of one.
    """
    axes = tuple(range(right.dim())) if axis is None else axis
    found, residual, inverse = torch.zeros_like(right), right, 1 / diagonal
    direction = inverse * residual
    size = (residual * direction).sum(axes, keepdim=True)
    for _ in range(steps):
        image = applied(direction)
        # Where all is solved already, 0 ÷ 0.
        length = (size / (direction * image).sum(axes, keepdim=True)).nan_to_num(0, 0, 0)
        found = found + length * direction
        residual = residual - length * image
        last, size = size, (residual * inverse * residual).sum(axes, keepdim=True)
        direction = inverse * residual + (size / last).nan_to_num(0, 0, 0) * direction
    return found
