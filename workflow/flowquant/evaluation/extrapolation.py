"""FID of fewer samples, and what it would be of infinitely many.

FID of n samples is too great by an amount that falls as 1/n and differs between models, so a line
through FIDs over 1/n meets 0 at FID∞ (Chong and Forsyth, 2020, arXiv:1911.07023).
"""

import numpy as np
import torch
from torch import Tensor

from flowquant.evaluation.frechet import Reference
from flowquant.runtime import random

# Of all samples, evenly spaced; of each share the mean over random subsets, the smaller ones within
# the larger.
SHARES = (0.5, 0.625, 0.75, 0.875)
SUBSETS = 4


def distances_at(reference: Reference, features: Tensor, seed: int) -> dict[int, float]:
    """FIDs of features [N, F] by the number of samples, half of them and more.

    Subsets are drawn by the seed: the same ones from all variants.
    """
    n = len(features)
    draws = random.generator(seed, "subsets")
    ranks = torch.stack([torch.randperm(n, generator=draws) for _ in range(SUBSETS)])
    sizes = sorted({size for share in SHARES if 2 <= (size := round(share * n)) < n})
    found = {
        size: float(reference.distances(features, (ranks < size).long()).mean()) for size in sizes
    }
    return found | {n: reference.distance(features)}


def at_infinity(distances: dict[int, float], features: int) -> float | None:
    """FID∞, by least squares through what `distances_at` found of so many ``features``.

    None where the line would mean nothing: of no more samples than features a covariance is
    singular, and FID is not linear in 1/n.
    """
    if len(distances) < 2 or min(distances) <= features:
        return None
    inverse = 1 / np.array(list(distances))
    return float(np.polyfit(inverse, list(distances.values()), deg=1)[1])
