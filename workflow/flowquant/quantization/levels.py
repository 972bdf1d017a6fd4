"""Quantizers: groups of values → levels and assignments, as pure functions.

Every quantizer takes finite ``values`` [G, n] (G groups that get levels of their own) and the
number of levels K, and returns sorted ``levels`` [G, L] with L ≤ K, of the values' type, and
``indices`` int32 [G, n] into them. Values equal to one another may get different levels only where
the published definition goes by rank (`equal_mass`).
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from flowquant.quantization.entropy_levels import entropy_constrained
from flowquant.quantization.lloyd import lloyd
from flowquant.quantization.own_levels import own_quantizer
from flowquant.quantization.search import nearest, sort_groups, stable_order
from flowquant.quantization.vectors import vector_means

Quantizer = Callable[[Tensor, int], tuple[Tensor, Tensor]]

# Candidate levels that `uniform_mse` evaluates together, to bound memory.
MOST_CANDIDATES = 1 << 23
_TINY = torch.finfo(torch.float64).tiny


def uniform(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """K equally spaced levels from each group's minimum to its maximum, each value to the nearest.

    Source: the reference's ``uniform``. A value half-way between two levels gets the lower one.
    """
    low, high = (bound.double() for bound in values.aminmax(dim=1, keepdim=True))
    return _spaced(values, low, high, count)


def _spaced(values: Tensor, low: Tensor, high: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Equally spaced levels from ``low`` to ``high`` [G, 1], each value to the nearest."""
    fractions = torch.linspace(0, 1, count, dtype=torch.float64, device=values.device)
    levels = torch.lerp(low, high, fractions)
    # ceil(x − ½) rounds halves down; a group of equal values has step 0 and stays at level 0.
    position = (values.double() - low).div_((high - low).clamp(min=_TINY))
    position.mul_(count - 1).sub_(0.5).ceil_().clamp_(0, count - 1)
    return levels.to(values.dtype), position.int()


def uniform_mse(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`uniform` on a narrower range: values beyond it are clipped, for the least squared error.

    Both ends are moved together first, over a geometric grid, then each by itself on finer and
    finer grids. A candidate costs K binary searches in the sorted values. Above 12 bits nothing
    is clipped: a step is then so small that there is nothing to gain.
    """
    if count > 1 << 12:
        return uniform(values, count)
    ordered = sort_groups(values).double()
    centre = ordered.mean(1, keepdim=True)
    ordered -= centre
    prefix = torch.nn.functional.pad(ordered.cumsum(1), (1, 0))
    low, high = ordered[:, :1], ordered[:, -1:]
    grid = torch.logspace(-1.8, 0, 64, dtype=torch.float64, device=values.device)
    grid = grid.expand(len(low), -1)
    best = _uniform_error(ordered, prefix, low * grid, high * grid, count).argmin(1, keepdim=True)
    low, high = low * grid.gather(1, best), high * grid.gather(1, best)
    for reach in (0.3, 0.1, 0.03, 0.01):
        grid = torch.linspace(1 - reach, 1 + reach, 9, dtype=torch.float64, device=values.device)
        tried = (low * grid).clamp(min=ordered[:, :1])
        errors = _uniform_error(ordered, prefix, tried, high.expand_as(tried), count)
        low = tried.gather(1, errors.argmin(1, keepdim=True))
        tried = (high * grid).clamp(max=ordered[:, -1:])
        errors = _uniform_error(ordered, prefix, low.expand_as(tried), tried, count)
        high = tried.gather(1, errors.argmin(1, keepdim=True))
    return _spaced(values, low + centre, high + centre, count)


def _uniform_error(
    ordered: Tensor, prefix: Tensor, low: Tensor, high: Tensor, count: int
) -> Tensor:
    """Σ(level² − 2·level·value) with uniform levels, for C candidate ranges [G, C]; [G, C].

    It is the squared error less Σ value², which no choice of levels changes.
    """
    at_once = max(1, MOST_CANDIDATES // (low.shape[1] * count))
    if len(low) > at_once:
        rows = [slice(start, start + at_once) for start in range(0, len(low), at_once)]
        return torch.cat(
            [_uniform_error(ordered[r], prefix[r], low[r], high[r], count) for r in rows]
        )
    fractions = torch.linspace(0, 1, count, dtype=torch.float64, device=low.device)
    levels = torch.lerp(low[..., None], high[..., None], fractions)
    middles = (levels[..., 1:] + levels[..., :-1]) / 2
    cuts = torch.searchsorted(ordered, middles.flatten(1).contiguous()).view_as(middles)
    ends = torch.nn.functional.pad(cuts, (1, 0))
    ends = torch.nn.functional.pad(ends, (0, 1), value=ordered.shape[1])
    sums = prefix.gather(1, ends.flatten(1)).view_as(ends).diff(dim=-1)
    return (ends.diff(dim=-1) * levels.square() - 2 * levels * sums).sum(-1)


def equal_mass(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The mean of each of min(K, n) equally populated chunks of the sorted values.

    Chunks are consecutive, their sizes differ by at most one, larger chunks first; a value's
    level is its chunk's, by rank. Source: the reference's ``ot``: the W₂-optimal measure with
    K atoms of mass 1/K each.
    """
    groups, n = values.shape
    count = min(count, n)
    order = stable_order(values)
    sizes = torch.full((count,), n // count, device=values.device)
    sizes[: n % count] += 1
    ends = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
    prefix = torch.nn.functional.pad(values.gather(1, order).double().cumsum(1), (1, 0))
    levels = prefix[:, ends].diff(dim=1) / sizes
    chunk = torch.arange(count, dtype=torch.int32, device=values.device).repeat_interleave(sizes)
    indices = torch.empty(groups, n, dtype=torch.int32, device=values.device)
    indices.scatter_(1, order, chunk.expand(groups, n))
    return levels.to(values.dtype), indices


def pwl(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Bins between the quantiles 0, 1/K, …, 1; a bin's level is its midpoint.

    Quantiles are linearly interpolated; a value on an edge belongs to the upper bin. Source: the
    extended paper's ``pwl``.
    """
    ordered = sort_groups(values).double()
    n = values.shape[1]
    position = torch.arange(count + 1, dtype=torch.float64, device=values.device) * (n - 1) / count
    below = position.long().clamp(max=n - 1)
    above = (below + 1).clamp(max=n - 1)
    edges = torch.lerp(ordered[:, below], ordered[:, above], position - below)
    levels = (edges[:, 1:] + edges[:, :-1]) / 2
    # The edges in the values' own type: a value that is the quantile must meet its edge exactly.
    inner = edges[:, 1:-1].to(values.dtype).contiguous()
    indices = torch.searchsorted(inner, values.contiguous(), right=True, out_int32=True)
    return levels.to(values.dtype), indices


def log2(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Levels evenly spaced in log₂ magnitude, each sign by itself.

    They go from the smallest to the largest magnitude of their sign. Negatives get ⌊K/2⌋ levels,
    positives ⌊K/2⌋ where negatives occur and K where none does. A value goes to the nearest level
    of its sign; an exact zero to the level of smallest magnitude that another value was given.
    Source: the extended paper's ``log2``.
    """
    half = max(1, count // 2)
    negative, positive = values < 0, values > 0
    mixed = negative.any(1, keepdim=True)
    halves = torch.full_like(mixed, half, dtype=torch.long)
    below, below_index = _log_spaced(values, negative, halves, half)
    above, above_index = _log_spaced(values, positive, torch.where(mixed, half, count), count)
    # Descending magnitudes of the negatives, then ascending ones of the positives: sorted values.
    both = torch.cat([-below.flip(1), above[:, : count - half]], dim=1)
    levels = torch.where(mixed, both, above)
    indices = torch.where(negative, half - 1 - below_index, above_index + half * mixed)
    magnitude = levels.gather(1, indices).abs().masked_fill(values == 0, torch.inf)
    smallest = indices.gather(1, magnitude.argmin(1, keepdim=True))
    indices = torch.where(values == 0, smallest, indices)
    # All zeros: nothing gave a level, so the level is zero.
    levels = torch.where((values == 0).all(1, keepdim=True), torch.zeros_like(levels), levels)
    return _sorted_unused(levels, indices, values)


def _log_spaced(values: Tensor, members: Tensor, sizes: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Magnitude levels [G, most] for the ``members`` of each group, and each value's index.

    A group uses its first ``sizes`` [G, 1] levels and repeats the last of them; groups without
    members get zeros.
    """
    magnitude = values.abs().double()
    some = members.any(1, keepdim=True)
    low = magnitude.masked_fill(~members, torch.inf).amin(1, keepdim=True)
    high = magnitude.masked_fill(~members, 0).amax(1, keepdim=True)
    low, high = (torch.where(some, bound, 1.0).log2() for bound in (low, high))
    position = torch.arange(most, dtype=torch.float64, device=values.device)
    fraction = (position / (sizes - 1).clamp(min=1)).clamp(max=1)
    levels = torch.lerp(low, high, fraction).exp2() * some
    middles = ((levels[:, 1:] + levels[:, :-1]) / 2).contiguous()
    index = torch.searchsorted(middles, magnitude.contiguous())
    return levels.to(values.dtype), torch.minimum(index, sizes - 1)


def _sorted_unused(levels: Tensor, indices: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Levels [G, L] with unused ones moved onto used ones, so that they are sorted; indices."""
    used = torch.zeros_like(levels, dtype=torch.bool).scatter_(1, indices, True)
    filled = levels.masked_fill(~used, -torch.inf).cummax(1).values
    first = levels.masked_fill(~used, torch.inf).amin(1, keepdim=True)
    return torch.maximum(filled, first).to(values.dtype), indices.int()


def normal_float(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Quantiles of a normal distribution, scaled by the group's absolute maximum.

    K/2 levels below zero, zero itself and the others above, as 4-bit NormalFloat has them, for
    any width: quantiles at evenly spaced probabilities, −1 and 1 the outermost. Source: QLoRA
    (Dettmers et al., 2023), appendix E, whose offset is the mean of the two outermost
    probabilities of K levels.
    """
    scale = values.abs().amax(1, keepdim=True).double()
    levels = scale * normal_quantiles(count).to(values.device)
    levels = levels.to(values.dtype)
    return levels, nearest(values, levels)


def normal_quantiles(count: int) -> Tensor:
    """The K levels of NormalFloat in −1…1, float64 [K], sorted."""
    if count == 1:
        return torch.zeros(1, dtype=torch.float64)
    offset = 0.5 * ((1 - 1 / (2 * count)) + (1 - 1 / (2 * count - 2)))
    below, above = count // 2, count - count // 2
    probability = torch.linspace(offset, 0.5, above + 1, dtype=torch.float64)[:-1]
    upper = torch.special.ndtri(probability).flip(0)
    probability = torch.linspace(offset, 0.5, below + 1 - (below > 1), dtype=torch.float64)
    if below > 1:
        lower = -torch.special.ndtri(probability)[:-1]
        levels = torch.cat([lower, torch.zeros(1, dtype=torch.float64), upper])
    else:
        levels = torch.cat([-upper[-1:], upper])
    return levels / levels.abs().max()


def quantizer_of(levels: str) -> Quantizer:
    """The quantizer that a method's ``levels`` name, for K levels a value.

    Raises:
        UserError: if they name a function of the user's own that is not there.
    """
    name, _, value = levels.partition(":")
    # A module of this name would have a function of a name.
    if name == "entropy" and value[:1].isdigit():
        return partial(entropy_constrained, price=float(value))
    if name == "vector" and value.isdigit():
        return partial(vector_means, d=int(value))
    return QUANTIZERS.get(levels) or own_quantizer(levels)


QUANTIZERS: dict[str, Quantizer] = {
    "uniform": uniform,
    "equal_mass": equal_mass,
    "pwl": pwl,
    "log2": log2,
    "uniform_mse": uniform_mse,
    "normal_float": normal_float,
    "lloyd": lloyd,
}
