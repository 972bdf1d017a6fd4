"""95 % intervals of what was measured with several seeds, by a hierarchical bootstrap.

Training seeds are drawn with replacement, of each as many sampling seeds as there are, and of each
of these a bootstrap resample of its samples (Efron and Tibshirani 1993; for levels, Saravanan et
al. 2020). The difference of two variants is drawn as one: both have the same trained models, noise
and labels, so that what chance adds to one it mostly adds to the other (the paired bootstrap).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flowquant.config.comparisons import Level

Floats = NDArray[np.float64]
DRAWS = 10_000
SHARE = 0.95


@dataclass(frozen=True)
class Measured:
    """A metric of a variant, or a difference of two.

    Attributes:
        values: Of each training seed and sampling seed, [T, S].
        resampled: The same of bootstrap resamples of the samples, [T, S, B]; B is 0 where there are
            none.
    """

    values: Floats
    resampled: Floats

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(self.values.mean())

    @property
    def levels(self) -> tuple[Level, ...]:
        """Over what there is something to draw from."""
        trainings, seeds, resamples = self.resampled.shape
        several: dict[Level, bool] = {
            "samples": resamples > 1,
            "sampling seeds": seeds > 1,
            "training seeds": trainings > 1,
        }
        return tuple(level for level, there in several.items() if there)

    def __sub__(self, other: Measured) -> Measured:
        return Measured(self.values - other.values, self.resampled - other.resampled)


@dataclass(frozen=True)
class Interval:
    """Where a mean lies with 95 % probability, and the p-value of its being 0."""

    low: float
    high: float
    p: float


def interval(measured: Measured, over: Collection[Level]) -> Interval | None:
    """The interval of a mean over some levels, or nothing if there are none.

    It reaches as far from the mean as what is drawn does from its own mean, mirrored: repeated
    samples add something to every FID. Two or three seeds of training say little of others: their
    deviations are widened to have their variance without bias, and what is drawn of them is scaled
    as Student's t scales a normal distribution. So are sampling seeds, where nothing else tells of
    chance. p is twice the share of what is drawn that reaches as far as 0.
    """
    if not over:
        return None
    trainings, seeds, resamples = measured.resampled.shape
    draws = np.random.default_rng(0)
    shape = (DRAWS, trainings, seeds)
    training, seed = np.arange(trainings)[:, None], np.arange(seeds)
    if "training seeds" in over:
        training = draws.integers(trainings, size=(DRAWS, trainings, 1))
    if "sampling seeds" in over:
        seed = draws.integers(seeds, size=shape)
    means = measured.values.mean(1, keepdims=True)
    of_training = (means - means.mean())[training, 0]
    of_seed = (measured.values - means)[training, seed]
    if "training seeds" in over:
        of_training = of_training * _few(trainings, trainings - 1, draws)
    elif "samples" not in over:
        of_seed = of_seed * _few(seeds, trainings * (seeds - 1), draws)
    moved, different = of_training + of_seed, float(DRAWS)
    if "samples" in over:
        of_samples = measured.resampled - measured.resampled.mean(2, keepdims=True)
        moved = moved + of_samples[training, seed, draws.integers(resamples, size=shape)]
        different = min(different, float(resamples) ** (trainings * seeds))
    found, mean = np.broadcast_to(moved, shape).mean((1, 2)), measured.mean
    low, high = np.quantile(found, [(1 - SHARE) / 2, (1 + SHARE) / 2])
    beyond = min((found >= mean).mean(), (found <= mean).mean())
    # No smaller than so many different draws can tell.
    p = min(1.0, 2 * (float(beyond) * different + 1) / (different + 1))
    return Interval(mean - float(high), mean - float(low), p)


def _few(count: int, freedom: int, draws: np.random.Generator) -> Floats:
    """By how much deviations of so few from their mean are too small, for each draw [DRAWS, 1, 1].

    √(n ÷ (n − 1)), and what makes Student's t of a normal distribution.
    """
    scales = np.sqrt(freedom / draws.chisquare(freedom, size=(DRAWS, 1, 1)))
    return np.asarray(math.sqrt(count / (count - 1)) * scales)


def proportion(shares: Floats, counts: NDArray[np.int64], resamples: int = 1000) -> Measured:
    """Shares of yes [T, S] among so many answers each, resampled: binomial draws are just that."""
    draws = np.random.default_rng(0)
    drawn = draws.binomial(counts[..., None], shares[..., None], size=(*shares.shape, resamples))
    return Measured(shares, drawn / counts[..., None])
