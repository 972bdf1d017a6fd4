"""The sliced Wasserstein distance against sorted projections, and where it is known."""

from __future__ import annotations

import numpy as np
import ot
import pytest
import torch

from flowquant.evaluation.sliced import SEED, sliced_w2


def test_as_sorted_projections_say() -> None:
    draws = np.random.default_rng(0)
    features, real = draws.normal(size=(60, 5)), draws.normal(1, 2, size=(90, 5))
    directions = ot.sliced.get_random_projections(5, 7, seed=SEED)
    assert np.linalg.norm(directions, axis=0) == pytest.approx(1)
    # 60 and 90 values are each 180 of equal weight.
    a = np.sort(features @ directions, axis=0).repeat(3, axis=0)
    b = np.sort(real @ directions, axis=0).repeat(2, axis=0)
    wanted = np.sqrt(np.mean((a - b) ** 2))
    found = sliced_w2(torch.from_numpy(features), torch.from_numpy(real), 7)
    assert found == pytest.approx(wanted, rel=1e-9)


def test_of_a_shift_it_is_known() -> None:
    """E ⟨θ, s⟩² = |s|² ÷ F."""
    features = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([3.0, 0.0, 4.0, 0.0])
    assert sliced_w2(features, features, 10) == 0
    assert sliced_w2(features + shift, features, 4000) == pytest.approx((25 / 4) ** 0.5, rel=0.02)
