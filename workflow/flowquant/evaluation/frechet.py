"""Fréchet distances of many weighted sets of samples from the same real images, on any device."""

from __future__ import annotations

import torch
from torch import Tensor


class Reference:
    """Real images' moments, ready for many comparisons by FID (Heusel et al., 2017).

    With S the real covariance, C another's: tr (C·S)^½ is the sum of the square roots of the
    eigenvalues of S^½·C·S^½, which is symmetric. Directions in which real images do not vary add
    nothing, so fewer images than features make smaller matrices.

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
        varies = values > values[-1] * len(values) * torch.finfo(torch.float64).eps
        # S = root · rootᵀ; [F, R].
        self.root = vectors[:, varies] * values[varies].sqrt()

    def distance(self, features: Tensor) -> float:
        """FID of features [N, F]."""
        return float(self.distances(features, torch.ones(1, len(features), dtype=torch.int64)))

    def distances(self, features: Tensor, counts: Tensor) -> Tensor:
        """FIDs of sets of samples, float64 [B] on the CPU.

        Args:
            features: Of samples, [N, F].
            counts: How often each sample is in each set, int64 [B, N].
        """
        moved = features.to(self.mean.device, torch.float64) - self.mean
        # What a set needs of each sample is computed once.
        rooted, squares = moved @ self.root, moved.square().sum(1)
        # A resample has 63 % of the samples: of their two products the smaller one will do, for
        # both have the same eigenvalues.
        pairs = rooted @ rooted.T if 2 * len(rooted) < 3 * rooted.shape[1] else None
        found = []
        for weights in counts.to(moved.device, torch.float64):
            drawn, n = weights > 0, weights.sum()
            mean, root = weights @ moved / n, (weights[drawn, None] / (n - 1)).sqrt()
            trace = (weights @ squares - n * mean.square().sum()) / (n - 1)
            if pairs is None:
                centred = (rooted[drawn] - weights @ rooted / n) * root
                product = centred.T @ centred
            else:
                to_mean = pairs @ weights / n
                centred = pairs - to_mean[:, None] - to_mean + to_mean @ weights / n
                product = centred[drawn][:, drawn] * root * root.T
            common = torch.linalg.eigvalsh(product).clamp(min=0).sqrt().sum()
            found.append(mean.square().sum() + trace + self.trace - 2 * common)
        return torch.stack(found).cpu() if found else torch.empty(0, dtype=torch.float64)
