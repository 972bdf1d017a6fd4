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
    deviations are widened to have their variance without bias, and what is drawn is stretched as
    Student's t is beside a normal distribution (Hesterberg 2015), with as many degrees of freedom
    as Satterthwaite (1946) counts where samples add to it. So are sampling seeds, where nothing
    else tells of chance.
    """
    if not over:
        return None
    from scipy.stats import norm, t

    trainings, seeds, resamples = measured.resampled.shape
    draws = np.random.default_rng(0)
    shape = (DRAWS, trainings, seeds)
    training, seed = np.arange(trainings)[:, None], np.arange(seeds)
    if "training seeds" in over:
        training = draws.integers(trainings, size=(DRAWS, trainings, 1))
    if "sampling seeds" in over:
        seed = draws.integers(seeds, size=shape)
    means = measured.values.mean(1, keepdims=True)
    of_training, of_seed = means - means.mean(), measured.values - means
    freedom, spread = math.inf, 0.0
    if "training seeds" in over:
        of_training *= math.sqrt(trainings / (trainings - 1))
        freedom, spread = trainings - 1, float(of_training.var()) / trainings
    elif "samples" not in over:
        of_seed *= math.sqrt(seeds / (seeds - 1))
        freedom, spread = trainings * (seeds - 1), float(of_seed.var()) / of_seed.size
    moved = np.broadcast_to(of_training[training, 0] + of_seed[training, seed], shape)
    if "samples" in over:
        of_samples = measured.resampled - measured.resampled.mean(2, keepdims=True)
        moved = moved + of_samples[training, seed, draws.integers(resamples, size=shape)]
    found = moved.mean((1, 2))
    mean, error = measured.mean, float(found.std())
    if error == 0:
        return Interval(mean, mean, float(mean == 0))
    freedom = freedom * (error**2 / spread) ** 2 if spread > 0 else math.inf
    tail = (1 + SHARE) / 2
    stretch = t.ppf(tail, freedom) / norm.ppf(tail)
    low, high = stretch * np.quantile(found, [1 - tail, tail])
    return Interval(
        mean - float(high), mean - float(low), float(2 * t.sf(abs(mean) / error, freedom))
    )


def proportion(shares: Floats, counts: NDArray[np.int64], resamples: int = 1000) -> Measured:
    """Shares of yes [T, S] among so many answers each, resampled: binomial draws are just that."""
    draws = np.random.default_rng(0)
    drawn = draws.binomial(counts[..., None], shares[..., None], size=(*shares.shape, resamples))
    return Measured(shares, drawn / counts[..., None])
