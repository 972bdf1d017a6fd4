"""W₂-optimal levels: one-dimensional k-means of each group, all groups at once.

Values are sorted once; with prefix sums of w and w² the mean and the squared error of any run of
sorted values cost two look-ups, so a Lloyd step costs K binary searches however many values there
are. Lloyd's iteration only finds a local optimum, so it starts from the best of several cuts: equal
mass, the density f^(1/3) that is optimal for many levels (Panter and Dite, 1951), and, where it is
affordable, the exact optimum over a coarse choice of cuts by dynamic programming.
With nearly as many levels as values, the cuts lie in the widest gaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from flowquant.quantization.search import stable_order

MOST_STEPS = 30
# Levels whose means move less than this share of their group's range have converged.
TOLERANCE = 1e-6
# Places near each cut among which `polish` chooses,
WINDOW = 9
# spread over these shares of the runs on both sides, one round after another.
REACHES = (0.4, 0.2, 0.1, 0.05, 0.02)
# Sums at a time that stay in a CPU's cache.
CACHED_SUMS = 1 << 17
# Sums that the dynamic programme may take for FEW_GROUPS groups in all: C²·(K + 8) a group for C
# candidate cuts. Where they suffice for all distinct values, its result is the optimum.
MOST_SUMS = 2e7
# Candidate cuts of the dynamic programme where they do not.
MOST_CUTS = 512
# More groups than this start without a dynamic programme over chosen cuts.
FEW_GROUPS = 16
# More levels than this are all but optimal where they start.
FEW_LEVELS = 64
# Sums that `polish` may take for each value.
SUMS_PER_VALUE = 8


def lloyd(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Levels of least squared error: one-dimensional k-means with min(K, n) levels."""
    groups, n = values.shape
    count = min(count, n)
    order = stable_order(values)
    runs = Runs.of(values.gather(1, order))
    cuts, exact = best_start(runs, count)
    if not exact:
        steps = MOST_STEPS if 4 * count <= n else MOST_STEPS // 3
        cuts = descend(runs, cuts, steps)
        if reaches := affordable_reaches(n, groups, count):
            cuts = descend(runs, polish(runs, cuts, reaches), steps)
    levels = runs.means(cuts).to(values.dtype)
    position = torch.arange(n, device=values.device).expand(groups, n).contiguous()
    run = torch.searchsorted(cuts[:, 1:-1].contiguous(), position, right=True, out_int32=True)
    return levels, torch.empty_like(run).scatter_(1, order, run)


def best_start(runs: Runs, count: int) -> tuple[Tensor, bool]:
    """Cuts [G, K + 1] to descend from, and whether they are the optimum already."""
    groups, n = runs.ordered.shape
    distinct = int((runs.ordered.diff(dim=1) > 0).sum(1).max()) + 1
    if distinct <= count:
        cuts = distinct_cuts(runs, distinct)
        return F.pad(cuts, (0, count - distinct), value=n), True
    coarse = int((MOST_SUMS / max(1, groups / FEW_GROUPS) / (count + 8)) ** 0.5)
    if distinct <= min(coarse, 2 * MOST_CUTS):
        return programme_cuts(runs, count, distinct_cuts(runs, distinct)), True
    if groups <= FEW_GROUPS and (coarse := min(coarse, MOST_CUTS)) >= 4 * count:
        return programme_cuts(runs, count, panter_dite_cuts(runs, coarse)), False
    if 5 * count > 2 * n:
        return gap_cuts(runs, count), False
    if count > FEW_LEVELS:
        return panter_dite_cuts(runs, count), False
    starts = [
        descend(runs, cuts(runs, count), steps=3) for cuts in (equal_mass_cuts, panter_dite_cuts)
    ]
    best = torch.stack([runs.error(cuts) for cuts in starts]).argmin(0)
    return torch.where(best[:, None] == 0, starts[0], starts[1]), False


def affordable_reaches(n: int, groups: int, count: int) -> tuple[float, ...]:
    """The reaches to polish with: more where values are many beside levels or few in all."""
    sums = WINDOW**2 * count
    for reaches in (2 * REACHES, REACHES[1::2]):
        if count > FEW_LEVELS and len(reaches) > len(REACHES):
            continue
        if len(reaches) * sums <= max(SUMS_PER_VALUE * n, MOST_SUMS / 4 / max(groups, FEW_GROUPS)):
            return reaches
    return ()


@dataclass(frozen=True)
class Runs:
    """The mean and squared error of any run of each group's sorted values.

    ``cuts`` are positions int64 [G, K + 1] from 0 to n, ascending: run k goes from cut k to k + 1.

    Args:
        ordered: Sorted values less their group's mean, which keeps precision; float64 [G, n].
        centre: The mean of each group, float64 [G, 1].
        first: Sums of the first 0…n of ``ordered``, float64 [G, n + 1].
        second: Sums of their squares, float64 [G, n + 1].
    """

    ordered: Tensor
    centre: Tensor
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, values: Tensor) -> Runs:
        """The runs of sorted values [G, n]."""
        ordered = values.double()
        centre = ordered.mean(1, keepdim=True)
        ordered = ordered - centre
        first, second = ordered.new_zeros(2, len(ordered), ordered.shape[1] + 1)
        torch.cumsum(ordered, 1, out=first[:, 1:])
        torch.cumsum(ordered.square(), 1, out=second[:, 1:])
        return cls(ordered, centre, first, second)

    def __getitem__(self, groups: Tensor) -> Runs:
        """The runs of some groups, indices [g] or bool [G]."""
        return Runs(
            self.ordered[groups], self.centre[groups], self.first[groups], self.second[groups]
        )

    @property
    def span(self) -> Tensor:
        """Each group's largest value less its smallest, float64 [G, 1]."""
        return self.ordered[:, -1:] - self.ordered[:, :1]

    def centred_means(self, cuts: Tensor) -> Tensor:
        """The mean of each run less its group's, float64 [G, K].

        An empty run's is the value at its cut.
        """
        size = cuts.diff(dim=1)
        means = self.first.gather(1, cuts).diff(dim=1) / size.clamp(min=1)
        here = self.ordered.gather(1, cuts[:, :-1].clamp(max=self.ordered.shape[1] - 1))
        return torch.where(size > 0, means, here)

    def means(self, cuts: Tensor) -> Tensor:
        """The mean of each run, float64 [G, K]."""
        return (self.centred_means(cuts) + self.centre).cummax(1).values

    def errors(self, cuts: Tensor) -> Tensor:
        """The squared error of each run about its mean, float64 [G, K]."""
        sums, squares = (part.gather(1, cuts).diff(dim=1) for part in (self.first, self.second))
        return (squares - sums.square() / cuts.diff(dim=1).clamp(min=1)).clamp(min=0)

    def error(self, cuts: Tensor) -> Tensor:
        """The squared error of each group, float64 [G]."""
        return self.errors(cuts).sum(1)


def equal_mass_cuts(runs: Runs, count: int) -> Tensor:
    """Cuts [G, K + 1] between equally populated runs."""
    groups, n = runs.ordered.shape
    places = torch.arange(count + 1, device=runs.ordered.device) * n // count
    return places.expand(groups, -1).contiguous()


def panter_dite_cuts(runs: Runs, count: int) -> Tensor:
    """Cuts [G, K + 1] at equal steps of ∫ f^(1/3), f the density between close quantiles."""
    n = runs.ordered.shape[1]
    bins = min(n - 1, 4096)
    if bins < 1:
        return equal_mass_cuts(runs, count)
    places = torch.arange(bins + 1, device=runs.ordered.device) * (n - 1) // bins
    width = runs.ordered[:, places].diff(dim=1)
    # f^(1/3) · width with f = mass / width, and mass the same in all bins.
    density = places.diff().double().pow(1 / 3) * width.pow(2 / 3)
    total = F.pad(density.cumsum(1), (1, 0))
    wanted = torch.linspace(0, 1, count + 1, dtype=torch.float64, device=total.device)
    wanted = (total[:, -1:] * wanted)[:, 1:-1].contiguous()
    upper = torch.searchsorted(total, wanted).clamp(1, bins)
    start, end = total.gather(1, upper - 1), total.gather(1, upper)
    share = (wanted - start) / (end - start).clamp(min=torch.finfo(torch.float64).tiny)
    cuts = torch.lerp(places[upper - 1].double(), places[upper].double(), share).round().long()
    return F.pad(F.pad(cuts, (1, 0)), (0, 1), value=n)


def gap_cuts(runs: Runs, count: int) -> Tensor:
    """Cuts [G, K + 1] at the widest gaps of the values, for nearly as many levels as values."""
    n = runs.ordered.shape[1]
    widest = runs.ordered.diff(dim=1).topk(count - 1, dim=1, sorted=False).indices + 1
    return F.pad(F.pad(widest.sort(dim=1).values, (1, 0)), (0, 1), value=n)


def distinct_cuts(runs: Runs, most: int) -> Tensor:
    """Cuts between distinct values, [G, most + 1]; groups with fewer repeat the last cut, n."""
    n = runs.ordered.shape[1]
    starts = F.pad(runs.ordered.diff(dim=1) > 0, (1, 0), value=True)
    position = torch.arange(n, device=starts.device)
    cuts = torch.where(starts, position, n).sort(dim=1).values[:, :most]
    return F.pad(cuts, (0, 1), value=n)


def programme_cuts(runs: Runs, count: int, places: Tensor) -> Tensor:
    """The best of some candidate cuts, by dynamic programming: C²·K additions a group.

    ``places`` int64 [G, C] are the candidates, ascending, the first 0 and the last n; the cuts are
    [G, K + 1]. With all cuts between distinct values they are the optimum.
    """
    groups, points = places.shape
    result = []
    # As many groups at a time as keep the costs between all pairs of cuts within 256 MiB.
    for part in torch.arange(groups, device=places.device).split(max(1, (1 << 25) // points**2)):
        at = places[part]
        sums, squares = (p[part].gather(1, at) for p in (runs.first, runs.second))
        # cost[end, start], so that the least over starts is along contiguous memory.
        size = (at[:, :, None] - at[:, None, :]).double()
        cost = (squares[:, :, None] - squares[:, None, :]) - (
            sums[:, :, None] - sums[:, None, :]
        ).square() / size.clamp(min=1)
        # From a later cut to an earlier one there is no run; an empty run costs nothing.
        cost.masked_fill_(size < 0, torch.inf).clamp_(min=0)
        least, choices = cost[:, :, 0], []
        for _ in range(count - 1):
            least, choice = (least[:, None, :] + cost).min(dim=2)
            choices.append(choice)
        end = torch.full((len(part), 1), points - 1, device=at.device)
        chosen = [end]
        for choice in reversed(choices):
            chosen.append(choice.gather(1, chosen[-1]))
        chosen.append(torch.zeros_like(end))
        result.append(at.gather(1, torch.cat(chosen[::-1], dim=1)))
    return torch.cat(result)


def polish(runs: Runs, cuts: Tensor, reaches: Sequence[float]) -> Tensor:
    """Move all cuts [G, K + 1] at once to the best of a few places near each; no greater error.

    A round of dynamic programming for each of ``reaches``: how far the places reach into the runs
    on both sides, as a share. Lloyd's iteration is slow where many cuts shift together; this is
    not.
    """
    rows = torch.arange(len(cuts), device=cuts.device)
    most = len(rows) if cuts.is_cuda else max(1, CACHED_SUMS // (WINDOW**2 * cuts.shape[1]))
    if most < len(rows):
        parts = [polish(runs[part], cuts[part], reaches) for part in rows.split(most)]
        return torch.cat(parts)
    n = runs.ordered.shape[1]
    share = torch.linspace(-1, 1, WINDOW, dtype=torch.float64, device=cuts.device)
    for reach in reaches:
        size = cuts.diff(dim=1).double()
        # Places on the left are in the run before the cut, places on the right in the run after.
        before, after = (F.pad(part, pad) for part, pad in ((size, (1, 0)), (size, (0, 1))))
        step = torch.where(share < 0, before[..., None], after[..., None]) * share * reach
        at = (cuts[..., None] + step.round().long()).clamp(0, n)
        sums, squares = (
            part.gather(1, at.flatten(1)).view_as(at) for part in (runs.first, runs.second)
        )
        left, right = slice(None, -1), slice(1, None)
        width = at[:, right, None, :] - at[:, left, :, None]
        cost = squares[:, right, None, :] - squares[:, left, :, None]
        cost -= (sums[:, right, None, :] - sums[:, left, :, None]).square() / width.clamp(min=1)
        cost = cost.clamp(min=0).masked_fill(width < 0, torch.inf)
        least, choices = cost[:, 0, WINDOW // 2], []
        for run in range(1, cost.shape[1]):
            least, choice = (least[:, :, None] + cost[:, run]).min(dim=1)
            choices.append(choice)
        chosen = [torch.full_like(cuts[:, :1], WINDOW // 2)]
        for choice in reversed(choices):
            chosen.append(choice.gather(1, chosen[-1]))
        chosen.append(chosen[0])
        cuts = at.gather(2, torch.cat(chosen[::-1], dim=1)[..., None]).squeeze(2)
    return cuts


def descend(runs: Runs, cuts: Tensor, steps: int) -> Tensor:
    """Lloyd's iteration: means of the runs, then cuts [G, K + 1] half-way between the means.

    At most ``steps``. A group whose means have stopped moving is left alone from then on.
    """
    cuts, rows = cuts.clone(), torch.arange(len(cuts), device=cuts.device)
    # Asking whether they have means waiting for the GPU, so that is done seldom.
    often = 10 if cuts.is_cuda else 2
    here, levels, n = cuts, runs.centred_means(cuts), runs.ordered.shape[1]
    for step in range(steps):
        middles = (levels[:, 1:] + levels[:, :-1]) / 2
        inner = torch.searchsorted(runs.ordered, middles, right=True)
        here = F.pad(F.pad(inner, (1, 0)), (0, 1), value=n)
        moved = runs.centred_means(here)
        if step % often == often - 1:
            still = ((moved - levels).abs() <= TOLERANCE * runs.span).all(1)
            if bool(still.any()):
                cuts[rows] = here
                rows, here, moved, runs = rows[~still], here[~still], moved[~still], runs[~still]
                if not len(rows):
                    return cuts
        levels = moved
    cuts[rows] = here
    return cuts
