"""How certain each variant's metrics are: what stages wrote, over seeds and resamples."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from flowquant.config.variants import Variant
from flowquant.report.intervals import Measured, interval, proportion
from flowquant.report.tables import Row

# Between which a metric lies.
BOUNDS = {"fid": (0, math.inf), "kid": (-math.inf, math.inf), "accuracy": (0, 1)}
# Dataset, variant, and extractor where there is one.
Key = tuple[str, Variant, str | None]


def by_key(results: Iterable[Row]) -> dict[Key, list[Row]]:
    """Results of each variant, by each extractor."""
    groups: dict[Key, list[Row]] = defaultdict(list)
    for result in results:
        groups[result["dataset"], result["variant"], result.get("extractor")].append(result)
    return groups


def over_seeds(results: Sequence[Row]) -> list[list[Row]] | None:
    """One variant's results by training seed and sampling seed; nothing if any is missing."""
    trainings = sorted({result["training_seed"] or 0 for result in results})
    seeds = sorted({result["seed"] for result in results})
    found = {(result["training_seed"] or 0, result["seed"]): result for result in results}
    if not len(found) == len(results) == len(trainings) * len(seeds):
        return None
    return [[found[training, seed] for seed in seeds] for training in trainings]


def fids(grid: list[list[Row]]) -> Measured | None:
    """FID with its resamples; nothing if these are not equally many."""
    if len({len(result["fid_resampled"]) for row in grid for result in row}) > 1:
        return None
    values = np.array([[result["fid"] for result in row] for row in grid], dtype=np.float64)
    resampled = [[result["fid_resampled"] for result in row] for row in grid]
    return Measured(values, np.array(resampled, dtype=np.float64).reshape(*values.shape, -1))


def _kids(grid: list[list[Row]]) -> Measured:
    values = np.array([[result["kid_mean"] for result in row] for row in grid], dtype=np.float64)
    return Measured(values, np.empty((*values.shape, 0)))


def _accuracies(grid: list[list[Row]]) -> Measured:
    shares = np.array([[result["accuracy"] for result in row] for row in grid], dtype=np.float64)
    return proportion(shares, np.array([[result["n"] for result in row] for row in grid]))


def intervals(evaluations: Iterable[Row], downstreams: Iterable[Row]) -> dict[Key, Row]:
    """95 % intervals of each variant's metrics, ``fid_low`` and ``fid_high`` and so on.

    ``over`` says over what those of FID are. KID has no resamples, and so an interval only where
    there are several seeds. Of what has none the columns are missing.
    """
    found: dict[Key, Row] = defaultdict(dict)
    metrics: tuple[tuple[str, Iterable[Row], Callable[[list[list[Row]]], Measured | None]], ...]
    seen = list(evaluations)
    metrics = (("fid", seen, fids), ("kid", seen, _kids), ("accuracy", downstreams, _accuracies))
    for name, results, measure in metrics:
        for key, own in by_key(results).items():
            grid = over_seeds(own)
            measured = None if grid is None else measure(grid)
            reach = None if measured is None else interval(measured, measured.levels)
            if measured is None or reach is None:
                continue
            low, high = BOUNDS[name]
            found[key] |= {
                f"{name}_low": max(reach.low, low),
                f"{name}_high": min(reach.high, high),
            }
            if name == "fid":
                found[key]["over"] = ", ".join(measured.levels)
    return found
