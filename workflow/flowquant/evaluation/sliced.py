"""Sliced Wasserstein distance of features, which MIND is made of (Berthet et al., 2026)."""

import torch
from torch import Tensor

# The same directions for all that is compared.
SEED = 2605


def sliced_w2(features: Tensor, real: Tensor, directions: int) -> float:
    """Sliced 2-Wasserstein distance between samples [N, F] and real images [M, F], of one device.

    SW₂ = (E_θ W₂²(⟨θ, x⟩, ⟨θ, y⟩))^½ over random directions θ, uniform on the unit sphere and the
    same on every device; in one dimension W₂ is exact, from sorted values, also of unequal numbers
    of images. It is in units of the features, as FID's root is, and needs no covariance, which few
    images leave singular. POT computes it. MIND (arXiv:2605.06797) is 3·F·SW₂², of 1,000
    directions and of as many real images as samples.
    """
    from flowquant.runtime.pot import ot

    along = ot.sliced.get_random_projections(features.shape[1], directions, seed=SEED)
    projections = torch.from_numpy(along).to(features.device)
    return float(
        ot.sliced_wasserstein_distance(
            features.double(), real.double(), p=2, projections=projections
        )
    )
