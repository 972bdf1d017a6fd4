"""Distances of samples' features from real images'.

FID is torch-fidelity's. KID, precision and recall are as torch-fidelity's, but on any device: its
own, by NumPy on one CPU, take longer for 1,000 samples and 10,000 real images than a GPU to sample.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

# torch-fidelity's, so that the subsets are the same.
SUBSET_SEED = 2020
ROWS = 2048


Statistics: TypeAlias = dict[str, Any]


def statistics(features: Tensor) -> Statistics:
    """Mean and covariance of features [N, F], for `frechet_distance`."""
    found: Statistics = fid_features_to_statistics(features.double())
    return found


def frechet_distance(features: Tensor, real: Statistics) -> float:
    """Fréchet Inception Distance (Heusel et al., 2017) of features [N, F] from real ones."""
    found = fid_statistics_to_metric(statistics(features), real, verbose=False)
    return float(found["frechet_inception_distance"])


def kernel_distance(features: Tensor, real: Tensor, subsets: int, size: int) -> tuple[float, float]:
    """Kernel Inception Distance (Bińkowski et al., 2018): unbiased MMD² of cubic kernels.

    Args:
        features: Of samples, float64 [N, F].
        real: Of real images, [M, F], on the same device.
        subsets: How many random subsets to average over.
        size: Images of each kind in a subset.

    Returns:
        Mean and standard deviation over subsets.
    """
    draws = np.random.RandomState(SUBSET_SEED)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1).pow(3)

    def within(a: Tensor) -> Tensor:
        found = kernel(a, a)
        return (found.sum() - found.trace()) / (size * (size - 1))

    # A subset of all is all of them, in whatever order.
    whole = [within(part) if len(part) == size else None for part in (features, real)]
    found = []
    for _ in range(subsets):
        x, y = (
            part[torch.from_numpy(draws.choice(len(part), size, replace=False)).to(part.device)]
            for part in (features, real)
        )
        alike = [within(p) if w is None else w for p, w in zip((x, y), whole, strict=True)]
        found.append(alike[0] + alike[1] - 2 * kernel(x, y).mean())
    distances = torch.stack(found)
    return distances.mean().item(), distances.std(correction=0).item()


def radii(features: Tensor, neighbours: int) -> Tensor:
    """Distance of each feature [N, F] to its ``neighbours``-th nearest other one, [N]."""
    return torch.cat(
        [
            torch.cdist(part, features).topk(neighbours + 1, largest=False).values[:, -1]
            for part in features.split(ROWS)
        ]
    )


def coverage(features: Tensor, of: Tensor, radius: Tensor) -> float:
    """Share of features [N, F] that lie within the radius [M] of at least one of others [M, F]."""
    inside = [(torch.cdist(part, of) <= radius).any(1) for part in features.split(ROWS)]
    return torch.cat(inside).double().mean().item()
