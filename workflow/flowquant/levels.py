"""Quantizers: groups of values → levels and assignments, as pure functions.

Every quantizer takes ``values`` [G, n] (G groups that get levels of their own) and the number of
levels K, and returns sorted ``levels`` [G, L] with L ≤ K, of the values' type, and ``indices``
int32 [G, n] into them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Quantizer = Callable[[Tensor, int], tuple[Tensor, Tensor]]


def uniform(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """K equally spaced levels from each group's minimum to its maximum, each value to the nearest.

    Source: the reference's ``uniform``. A value half-way between two levels gets the lower one.
    """
    low, high = (bound.double() for bound in values.aminmax(dim=1, keepdim=True))
    fractions = torch.linspace(0, 1, count, dtype=torch.float64, device=values.device)
    levels = torch.lerp(low, high, fractions)
    # ceil(x − ½) rounds halves down; a group of equal values has step 0 and stays at level 0.
    position = (values.double() - low) / (high - low).clamp(min=torch.finfo(torch.float64).tiny)
    indices = (position * (count - 1) - 0.5).ceil().clamp(0, count - 1)
    return levels.to(values.dtype), indices.int()


def equal_mass(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The mean of each of min(K, n) equally populated chunks of the sorted values.

    Chunks are consecutive, their sizes differ by at most one, larger chunks first; a value's
    level is its chunk's, by rank. Source: the reference's ``ot``: the W₂-optimal measure with
    K atoms of mass 1/K each.
    """
    groups, n = values.shape
    count = min(count, n)
    order = values.argsort(dim=1, stable=True)
    sizes = torch.full((count,), n // count, device=values.device)
    sizes[: n % count] += 1
    chunk = torch.repeat_interleave(torch.arange(count, device=values.device), sizes)
    sums = torch.zeros(groups, count, dtype=torch.float64, device=values.device)
    sums.index_add_(1, chunk, values.gather(1, order).double())
    indices = torch.empty(groups, n, dtype=torch.int32, device=values.device)
    indices.scatter_(1, order, chunk.int().expand(groups, n))
    return (sums / sizes).to(values.dtype), indices


QUANTIZERS: dict[str, Quantizer] = {
    "uniform": uniform,
    "equal_mass": equal_mass,
}
