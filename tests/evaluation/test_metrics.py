"""Metrics against closed forms and against torch-fidelity's own."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from flowquant.config.evaluation import MetricsConfig
from flowquant.evaluation.features import RealFeatures
from flowquant.evaluation.metrics import image_metrics, inside_manifold, kernel_distance, radii

METRICS = MetricsConfig(kid_subsets=5, kid_subset_size=1000, is_splits=2, resamples=0)


def measure(features: Tensor, logits: Tensor, real: Tensor) -> dict[str, Any]:
    of_real = RealFeatures(real, radii(real.double(), 3), neighbours=3, digest="")
    return image_metrics(features, logits, of_real, METRICS, 0)


def gaussian(n: int, mean: list[float], std: list[float], seed: int) -> Tensor:
    draws = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed))
    return draws * torch.tensor(std) + torch.tensor(mean)


def test_fid_of_gaussians() -> None:
    """FID = |μ₁ − μ₂|² + Σ (σ₁ − σ₂)² for independent coordinates."""
    a = gaussian(40_000, [0.0, 0.0], [1.0, 2.0], 0)
    b = gaussian(40_000, [3.0, 0.0], [1.0, 4.0], 1)
    found = measure(a[:4000], torch.zeros(4000, 3), b[:4000])
    assert found["fid"] == pytest.approx(9 + 4, rel=0.05)
    assert found["precision"] < 1


def test_identical_features_are_perfect() -> None:
    a = gaussian(300, [0.0, 1.0], [1.0, 1.0], 0)
    found = measure(a, torch.zeros(300, 3), a)
    assert found["fid"] == pytest.approx(0, abs=1e-6)
    assert found["precision"] == found["recall"] == 1
    assert found["is_mean"] == pytest.approx(1)


def test_inception_score_of_sure_and_even_classes() -> None:
    """Sure of each of three equally frequent classes: the score is three."""
    logits = torch.eye(3).repeat(100, 1) * 50
    found = measure(
        gaussian(300, [0.0] * 2, [1.0] * 2, 0),
        logits,
        gaussian(300, [0.0] * 2, [1.0] * 2, 1),
    )
    assert found["is_mean"] == pytest.approx(3, rel=0.01)


def test_kid_is_unbiased_and_subsets_fit() -> None:
    a, b = gaussian(250, [0.0] * 4, [1.0] * 4, 0), gaussian(90, [0.0] * 4, [1.0] * 4, 1)
    near = measure(a, torch.zeros(250, 3), b)["kid_mean"]
    far = measure(a + 2, torch.zeros(250, 3), b)["kid_mean"]
    assert abs(near) < 0.5 < far


def test_as_torch_fidelity() -> None:
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import calculate_precision_recall_part

    a = gaussian(300, [0.0] * 30, [1.0] * 30, 0).double()
    b = gaussian(500, [0.3] * 30, [1.1] * 30, 1).double()
    for size in (100, 300):
        wanted = kid_features_to_metric(a, b, kid_subsets=7, kid_subset_size=size, verbose=False)
        assert kernel_distance(a, b, 7, size) == pytest.approx(tuple(wanted.values()), rel=1e-9)
    found = inside_manifold(a, b, radii(b, 3)), inside_manifold(b, a, radii(a, 3))
    assert found == pytest.approx(calculate_precision_recall_part(a, b, 3), abs=1e-7)
    assert 0 < found[0] < 1


def test_resamples_of_variants_are_pairs() -> None:
    """What is nearly the same differs by little in every resample, but not with another seed."""
    a, real = gaussian(200, [0.3] * 4, [1.2] * 4, 0), gaussian(500, [0.0] * 4, [1.0] * 4, 1)
    of_real = RealFeatures(real, radii(real.double(), 3), neighbours=3, digest="")
    settings = replace(METRICS, resamples=30)

    def resampled(features: Tensor, seed: int) -> Tensor:
        found = image_metrics(features, None, of_real, settings, seed)
        assert found["is_mean"] is found["is_std"] is None  # without logits
        return torch.tensor(found["fid_resampled"])

    whole, moved, other = resampled(a, 0), resampled(a + 0.01, 0), resampled(a + 0.01, 1)
    assert len(whole) == 30
    assert (moved - whole).std() < 0.1 * whole.std()
    assert (other - whole).std() > whole.std()
