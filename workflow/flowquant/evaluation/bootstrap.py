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


class Reference:
    """Real images' moments, ready for many comparisons.

    With S the real covariance, C another's: tr (C·S)^½ is the sum of the square roots of the
    eigenvalues of S^½·C·S^½, which is symmetric.

    Args:
        features: Of real images, [M, F].
        device: Where to compute, in float64.
    """

    def __init__(self, features: Tensor, device: torch.device) -> None:
        moved = features.to(device, torch.float64)
        self.mean = moved.mean(0)
        covariance = torch.cov(moved.T, correction=1).reshape(len(self.mean), -1)
        values, vectors = torch.linalg.eigh(covariance)
        self.trace = covariance.trace()
        self.root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T

    def distances(self, features: Tensor, counts: Tensor) -> Distances:
        """FIDs of features [N, F], all of them and resampled.

        Args:
            features: Of samples.
            counts: How often each is in a resample of N, int64 [B, N].
        """
        moved = features.to(self.mean.device, torch.float64) - self.mean
        # What a resample needs of each sample is computed once.
        rooted, squares = moved @ self.root, moved.square().sum(1)
        n = len(moved)
        all_once = torch.ones(1, n, dtype=counts.dtype)
        found = []
        for weights in torch.cat([all_once, counts]).to(moved.device, torch.float64):
            mean, rooted_mean = weights @ moved / n, weights @ rooted / n
            trace = (weights @ squares - n * mean.square().sum()) / (n - 1)
            # A third of the samples is not drawn. With fewer samples than features, the smaller
            # product has the same eigenvalues.
            drawn = weights > 0
            centred = (rooted[drawn] - rooted_mean) * (weights[drawn, None] / (n - 1)).sqrt()
            small = len(centred) > centred.shape[1]
            product = centred.T @ centred if small else centred @ centred.T
            common = torch.linalg.eigvalsh(product).clamp(min=0).sqrt().sum()
            found.append(mean.square().sum() + trace + self.trace - 2 * common)
        distances = torch.stack(found).cpu()
        return Distances(float(distances[0]), distances[1:])


def resample_counts(n: int, resamples: int, seed: int) -> Tensor:
    """How often each of n samples is drawn into each resample, int64 [B, n]."""
    draws = random.generator(seed, "bootstrap")
    rows = [torch.randint(n, (n,), generator=draws).bincount(minlength=n) for _ in range(resamples)]
    return torch.stack(rows)


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
