"""Entropy-constrained levels: fewest bits after entropy coding for what they lose.

Of each group by itself, mean((w − c)² ÷ σ²) + λ·H is made small: σ² is the group's variance, H
the entropy of its indices in bits (Chou, Lookabaugh and Gray, 1989). In turn assignments are the
best to given levels and frequencies, and these of given assignments; a level whose interval
vanishes is gone. It ends in a local optimum, so it starts from several even grids and from where
`lloyd` does.
"""

from itertools import product
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from flowquant.quantization.lloyd import FEW_GROUPS, FEW_LEVELS, Runs, best_start
from flowquant.quantization.search import stable_order

MOST_STEPS = 100
# A descent has ended where no group's cost falls by more than this share of its variance.
TOLERANCE = 1e-6
# Steps of the grids to start from, beside the step that is best where levels are many (for many
# groups that one alone); with a level or the middle of two at the mean.
WIDTHS = (0.8, 1.0, 1.3)
OFFSETS = (0.0, 0.5)
# Pairs of levels that are looked at together, to bound memory.
MOST_PAIRS = 1 << 22


def entropy_constrained(values: Tensor, count: int, price: float) -> tuple[Tensor, Tensor]:
    """At most K levels, at a price λ of a bit, as a share of a group's variance; λ > 0."""
    groups, n = values.shape
    most = max(1, MOST_PAIRS // min(count, n) ** 2)
    if groups > most:
        parts = [entropy_constrained(part, count, price) for part in values.split(most)]
        widest = max(levels.shape[1] for levels, _ in parts)
        filled = [F.pad(a[:, None], (0, widest - a.shape[1]), "replicate")[:, 0] for a, _ in parts]
        return torch.cat(filled), torch.cat([indices for _, indices in parts])
    order = stable_order(values)
    runs = Runs.of(values.gather(1, order))
    variance = (runs.second[:, -1:] / n).clamp(min=torch.finfo(torch.float64).tiny)
    # With many levels Δ apart the error is Δ² ÷ 12 and falls by 2·ln 2 of itself for a bit more;
    # with few for the range of values, Δ is about what it takes to reach its ends.
    step = variance.sqrt() * max((6 * price / log(2)) ** 0.5, 4 / count)
    widths = WIDTHS if groups <= FEW_GROUPS else (1.0,)
    starts = [grid(runs, count, width * step, offset) for width, offset in product(widths, OFFSETS)]
    if count <= FEW_LEVELS:
        starts.append(runs.centred_means(best_start(runs, min(count, n))[0]))
    found = [descend(runs, start, variance * price) for start in starts]
    most = max(cuts.shape[1] for cuts, _ in found)
    every = torch.stack([F.pad(cuts, (0, most - cuts.shape[1]), value=n) for cuts, _ in found])
    cheapest = torch.stack([cost for _, cost in found]).argmin(0, keepdim=True)
    best = every.take_along_dim(cheapest, 0)[0]
    levels = runs.means(best).to(values.dtype)
    position = torch.arange(n, device=values.device).expand(groups, n).contiguous()
    run = torch.searchsorted(best[:, 1:-1].contiguous(), position, right=True, out_int32=True)
    return levels, torch.empty_like(run).scatter_(1, order, run)


def grid(runs: Runs, count: int, step: Tensor, offset: float) -> Tensor:
    """Levels [G, K] a step [G, 1] apart around the mean, as many as there is room for at most."""
    room = int((runs.span / step).amax().clamp(max=count)) + 2
    places = torch.arange(min(count, room), device=step.device, dtype=step.dtype)
    return (places - (len(places) - 1) // 2 - offset) * step


def descend(runs: Runs, levels: Tensor, price: Tensor) -> tuple[Tensor, Tensor]:
    """From levels [G, K] to cuts [G, K + 1] of a local optimum, and its cost [G, 1].

    ``price`` [G, 1] is of a bit, in squared error a value.
    """
    n = runs.ordered.shape[1]
    cuts = assign(runs, levels, torch.zeros_like(levels))
    least = torch.full_like(price, torch.inf)
    for _ in range(MOST_STEPS if len(levels) <= FEW_GROUPS else MOST_STEPS // 4):
        shares = cuts.diff(dim=1) / n
        bits = -shares.log2()
        cost = runs.errors(cuts).sum(1, keepdim=True) / n
        cost = cost + price * (shares * bits).nan_to_num(0).sum(1, keepdim=True)
        if bool((least - cost <= TOLERANCE * runs.second[:, -1:] / n).all()):
            break
        least = cost
        levels, fees = runs.centred_means(cuts), price * bits
        if not bool((used := (shares > 0).any(0)).all()):
            levels, fees = levels[:, used], fees[:, used]
        cuts = assign(runs, levels, fees)
    return cuts, cost


def assign(runs: Runs, levels: Tensor, fees: Tensor) -> Tensor:
    """Cuts [G, K + 1] that give each value w the level c of least (w − c)² + fee.

    ``levels`` and ``fees`` are [G, K]; of an infinite fee, none gets the level.
    """
    # Of a pair, j < k, the upper one is cheaper from here on.
    apart = levels[:, None, :] - levels[:, :, None]
    offset = (fees[:, None, :] - fees[:, :, None]) / (2 * apart)
    border = (levels[:, None, :] + levels[:, :, None]) / 2 + offset
    below = torch.ones_like(border[0], dtype=torch.bool).triu(1)
    ends = torch.where(below, border, torch.inf).nan_to_num(torch.inf, torch.inf, -torch.inf)
    starts = torch.where(below, border, -torch.inf).nan_to_num(-torch.inf, torch.inf, -torch.inf)
    low, high = starts.amax(1), ends.amin(2)
    alive = (low < high) & fees.isfinite()
    # Intervals of those alive tile the line; the others end where the one before them does.
    high = high.masked_fill(~alive, -torch.inf).cummax(1).values
    inner = torch.searchsorted(runs.ordered, high[:, :-1].contiguous(), right=True)
    return F.pad(F.pad(inner, (1, 0)), (0, 1), value=runs.ordered.shape[1])
