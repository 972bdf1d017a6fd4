"""Paired bootstrap of FID against torch-fidelity's on the resamples themselves."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowquant.evaluation.bootstrap import Reference, average, difference, resample_counts
from flowquant.evaluation.metrics import frechet_distance, moments

CPU = torch.device("cpu")


def draws(n: int, size: int, seed: int) -> Tensor:
    """Features that go together."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    return torch.randn(n, size, generator=generator) @ mixed


# More features than samples, and fewer.
@pytest.mark.parametrize(("n", "size"), [(300, 12), (20, 30)])
def test_fid_of_each_resample_is_torch_fidelitys(n: int, size: int) -> None:
    real, features = draws(400, size, 1), draws(n, size, 2) * 1.1 + 0.2
    counts = resample_counts(n, 3, seed=0)
    assert counts.sum(1).tolist() == [n] * 3
    found = Reference(real, CPU).distances(features, counts)
    of_real = moments(real)
    assert found.whole == pytest.approx(frechet_distance(features, of_real), rel=1e-4)
    for row, distance in zip(counts, found.resampled.tolist(), strict=True):
        drawn = features.repeat_interleave(row, dim=0)
        assert distance == pytest.approx(frechet_distance(drawn, of_real), rel=1e-4)


def test_pairs_make_the_interval_narrow_and_it_holds_the_truth() -> None:
    reference = Reference(draws(2000, 8, 1), CPU)
    held, widths = 0, []
    for seed in range(20):
        counts = resample_counts(200, 100, seed)
        common = draws(200, 8, 10 + seed)
        # Of all samples, which there are without end, the FIDs are known: 0 and the shift's square.
        a, b, other = (
            reference.distances(features, counts)
            for features in (common + 0.5, common, draws(200, 8, 100 + seed))
        )
        paired, apart = difference(a, b), difference(a, other)
        assert paired.low <= paired.high
        held += paired.low < 8 * 0.5**2 < paired.high
        widths.append((paired.high - paired.low, apart.high - apart.low))
    assert held >= 16
    assert sum(narrow for narrow, _ in widths) < 0.7 * sum(wide for _, wide in widths)


def test_a_variant_does_not_differ_from_itself() -> None:
    counts = resample_counts(50, 10, 0)
    one = Reference(draws(60, 4, 1), CPU).distances(draws(50, 4, 2), counts)
    found = difference(one, one)
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_seeds_are_averaged_resample_by_resample() -> None:
    reference = Reference(draws(60, 4, 1), CPU)
    seeds = [
        reference.distances(draws(50, 4, seed), resample_counts(50, 10, seed)) for seed in (2, 3)
    ]
    both = average(seeds)
    assert both.whole == pytest.approx((seeds[0].whole + seeds[1].whole) / 2)
    torch.testing.assert_close(both.resampled, (seeds[0].resampled + seeds[1].resampled) / 2)


def test_resamples_follow_from_the_seed_alone() -> None:
    assert resample_counts(30, 4, 0).equal(resample_counts(30, 4, 0))
    assert not resample_counts(30, 4, 0).equal(resample_counts(30, 4, 1))
    # The first ones are the same, however many follow.
    assert resample_counts(30, 8, 0)[:4].equal(resample_counts(30, 4, 0))
