"""FID of infinitely many samples, where a closed form tells it."""

from __future__ import annotations

import pytest
import torch

from flowquant.evaluation.extrapolation import at_infinity, distances_at
from flowquant.evaluation.frechet import Reference

CPU = torch.device("cpu")


def test_gaussians_whose_distance_is_known() -> None:
    """FID∞ = |μ|² + Σ (σ − 1)² of independent coordinates; of n samples it is far greater."""
    size = 32
    real = torch.randn(40_000, size, generator=torch.Generator().manual_seed(0))
    reference = Reference(real, CPU)
    known = size * (0.1**2 + 0.2**2)
    raw, extrapolated = [], []
    for seed in range(8):
        draws = torch.Generator().manual_seed(1 + seed)
        features = torch.randn(600, size, generator=draws) * 1.2 + 0.1
        found = distances_at(reference, features, seed)
        assert list(found) == [300, 375, 450, 525, 600]
        assert sorted(found.values(), reverse=True) == list(found.values())
        raw.append(found[600])
        extrapolated.append(at_infinity(found, size) or 0)
    assert sum(raw) / 8 > 1.2 * known
    assert sum(extrapolated) / 8 == pytest.approx(known, rel=0.05)


def test_a_line_over_one_by_n_is_met_exactly() -> None:
    assert at_infinity({n: 3 + 50 / n for n in (40, 60, 80)}, features=8) == pytest.approx(3)


def test_too_few_samples_have_none() -> None:
    assert at_infinity({8: 2.0, 16: 1.0}, features=8) is None
    assert at_infinity({16: 1.0}, features=8) is None


def test_subsets_are_the_same_for_all_variants() -> None:
    reference = Reference(torch.randn(50, 2, generator=torch.Generator().manual_seed(0)), CPU)
    features = torch.randn(40, 2, generator=torch.Generator().manual_seed(1))
    one, other = (distances_at(reference, features, seed) for seed in (0, 1))
    assert one == distances_at(reference, features, 0)
    assert one[40] == other[40]
    assert one[20] != other[20]
