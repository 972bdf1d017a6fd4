"""How certain a difference of FID is between variants that share noise and labels.

Sample i of every variant begins from the same noise and label, so what chance adds to the FID of
one it mostly adds to that of another. The same indices are drawn anew, with replacement, for all
(the paired bootstrap, Efron and Tibshirani 1993): intervals of a difference are then far narrower
than those of the FIDs. Real images are taken as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flowquant.runtime import random


@dataclass(frozen=True)
class Distances:
    """FIDs of a variant.

    Args:
        whole: Of all its samples.
        resampled: Of each resample, float64 [B].
    """

    whole: float
    resampled: Tensor


@dataclass(frozen=True)
class Interval:
    """A difference, and where it lies with a probability."""

    difference: float
    low: float
    high: float


def resample_counts(n: int, resamples: int, seed: int) -> Tensor:
    """How often each of n samples is drawn into each resample, int64 [B, n]."""
    draws = random.generator(seed, "bootstrap")
    rows = [torch.randint(n, (n,), generator=draws).bincount(minlength=n) for _ in range(resamples)]
    return torch.stack(rows) if rows else torch.empty(0, n, dtype=torch.int64)


def difference(a: Distances, b: Distances, share: float = 0.95) -> Interval:
    """How much greater the FID of one variant is than that of another, from the same resamples.

    It is of as many samples as there are: of more, every FID would be smaller. The interval reaches
    as far from the difference as resamples' differences do from their mean, mirrored; that mean
    itself has what repeated samples add to the FIDs.
    """
    whole = a.whole - b.whole
    resampled = (a.resampled - b.resampled).numpy()
    low, high = np.quantile(resampled - resampled.mean(), [(1 - share) / 2, (1 + share) / 2])
    return Interval(whole, whole - float(high), whole - float(low))


def average(seeds: list[Distances]) -> Distances:
    """FIDs of a variant over seeds, whose samples are drawn apart from one another."""
    whole = sum(one.whole for one in seeds) / len(seeds)
    return Distances(whole, torch.stack([one.resampled for one in seeds]).mean(0))
