"""W₂-optimal vectors: k-means of the d neighbouring values that each stands for.

The measure on K points of ℝᵈ that is nearest to n equally weighted vectors in W₂ has the clusters'
means for points and their shares for masses, and the squared distance is the mean squared error.
Lloyd's iteration finds a local optimum.
"""

import torch
from torch import Tensor

from flowquant.quantization.search import nearest_vectors
from flowquant.runtime import random

# Vectors for each of K that most steps look at, and these steps.
SAMPLE = 256
SAMPLE_STEPS = 25
# Steps over all vectors that follow.
FULL_STEPS = 3


def vector_means(values: Tensor, count: int, d: int) -> tuple[Tensor, Tensor]:
    """K vectors of least squared error for each group of values [G, n], d dividing n.

    Returns vectors [G, K, d] in no order, K ≤ n ÷ d, and indices int32 [G, n ÷ d] into them.
    """
    found = [_means(group.reshape(-1, d), count) for group in values]
    vectors = torch.stack([vectors for vectors, _ in found])
    return vectors, torch.stack([indices for _, indices in found])


def _means(points: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """K of n points [n, d], and the nearest of them for each, int32 [n]."""
    draws = random.generator(0, "vectors")
    order = torch.randperm(len(points), generator=draws)[: SAMPLE * count].to(points.device)
    sample = points[order]
    vectors = sample[:count].clone()
    for step in range(SAMPLE_STEPS + FULL_STEPS):
        seen = sample if step < SAMPLE_STEPS and len(sample) < len(points) else points
        moved = _moved(seen, vectors)
        if moved.equal(vectors):
            break
        vectors = moved
    return vectors, _nearest(points, vectors)


def _moved(points: Tensor, vectors: Tensor) -> Tensor:
    """The mean of the points nearest to each vector.

    A vector that is nearest to none goes to one of the points that are furthest from theirs.
    """
    index = _nearest(points, vectors).long()
    # Sums over sorted runs: the same on every device, whatever comes first.
    order = index.argsort(stable=True)
    sums = torch.nn.functional.pad(points[order].double().cumsum(0), (0, 0, 1, 0))
    sizes = index.bincount(minlength=len(vectors))
    ends = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
    means = (sums[ends].diff(dim=0) / sizes.clamp(min=1)[:, None]).to(points.dtype)
    empty = sizes == 0
    if bool(empty.any()):
        furthest = (points - means[index]).square().sum(1).topk(int(empty.sum())).indices
        means[empty] = points[furthest]
    return means


def _nearest(points: Tensor, vectors: Tensor) -> Tensor:
    return nearest_vectors(points[None], vectors[None])[0]
