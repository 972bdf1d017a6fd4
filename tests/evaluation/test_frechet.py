"""FIDs of weighted sets against torch-fidelity's of the sets themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from flowquant.evaluation.bootstrap import resample_counts
from flowquant.evaluation.frechet import Reference

CPU = torch.device("cpu")


def draws(n: int, size: int, seed: int) -> Tensor:
    """Features that go together."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    return torch.randn(n, size, generator=generator) @ mixed


def theirs(features: Tensor, real: Tensor) -> float:
    ours, others = (fid_features_to_statistics(part.double()) for part in (features, real))
    return float(
        fid_statistics_to_metric(ours, others, verbose=False)["frechet_inception_distance"]
    )


# Fewer features than samples and real images, more than samples, more than real images.
@pytest.mark.parametrize(("n", "m", "size"), [(300, 400, 12), (20, 400, 30), (100, 20, 30)])
def test_fid_of_each_resample_is_torch_fidelitys(n: int, m: int, size: int) -> None:
    real, features = draws(m, size, 1), draws(n, size, 2) * 1.1 + 0.2
    reference = Reference(real, CPU)
    assert reference.distance(features) == pytest.approx(theirs(features, real), rel=1e-4)
    counts = resample_counts(n, 3, seed=0)
    found = reference.distances(features, counts).tolist()
    for row, distance in zip(counts, found, strict=True):
        drawn = features.repeat_interleave(row, dim=0)
        assert distance == pytest.approx(theirs(drawn, real), rel=1e-4)


def test_sets_may_be_smaller() -> None:
    real, features = draws(400, 12, 1), draws(300, 12, 2) * 1.1
    half = (torch.arange(300) < 150).long()[None]
    found = Reference(real, CPU).distances(features, half)
    assert found.tolist() == pytest.approx([theirs(features[:150], real)], rel=1e-6)


def test_real_images_that_are_all_the_same() -> None:
    """Then FID is the mean's distance and the samples' own variance."""
    features = draws(50, 4, 1)
    found = Reference(torch.ones(9, 4), CPU).distance(features)
    wanted = (features.mean(0) - 1).square().sum() + features.var(0).sum()
    assert found == pytest.approx(float(wanted), rel=1e-5)
