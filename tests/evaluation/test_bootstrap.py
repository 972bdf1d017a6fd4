"""Paired bootstrap of FID: intervals of what is known, and nothing where nothing differs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from flowquant.evaluation.bootstrap import Distances, average, difference, resample_counts
from flowquant.evaluation.frechet import Reference

CPU = torch.device("cpu")


def draws(n: int, size: int, seed: int) -> Tensor:
    """Features that go together."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    return torch.randn(n, size, generator=generator) @ mixed


def distances(reference: Reference, features: Tensor, counts: Tensor) -> Distances:
    return Distances(reference.distance(features), reference.distances(features, counts))


def test_pairs_make_the_interval_narrow_and_it_holds_the_truth() -> None:
    reference = Reference(draws(2000, 8, 1), CPU)
    held, widths = 0, []
    for seed in range(20):
        counts = resample_counts(200, 100, seed)
        common = draws(200, 8, 10 + seed)
        # Of all samples, which there are without end, the FIDs are known: 0 and the shift's square.
        a, b, other = (
            distances(reference, features, counts)
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
    one = distances(Reference(draws(60, 4, 1), CPU), draws(50, 4, 2), counts)
    found = difference(one, one)
    assert (found.difference, found.low, found.high) == (0, 0, 0)


def test_seeds_are_averaged_resample_by_resample() -> None:
    reference = Reference(draws(60, 4, 1), CPU)
    seeds = [
        distances(reference, draws(50, 4, seed), resample_counts(50, 10, seed)) for seed in (2, 3)
    ]
    both = average(seeds)
    assert both.whole == pytest.approx((seeds[0].whole + seeds[1].whole) / 2)
    torch.testing.assert_close(both.resampled, (seeds[0].resampled + seeds[1].resampled) / 2)


def test_resamples_follow_from_the_seed_alone() -> None:
    assert resample_counts(30, 4, 0).equal(resample_counts(30, 4, 0))
    assert not resample_counts(30, 4, 0).equal(resample_counts(30, 4, 1))
    # The first ones are the same, however many follow.
    assert resample_counts(30, 8, 0)[:4].equal(resample_counts(30, 4, 0))
    assert resample_counts(30, 4, 0).sum(1).tolist() == [30] * 4
    assert resample_counts(30, 0, 0).shape == (0, 30)
