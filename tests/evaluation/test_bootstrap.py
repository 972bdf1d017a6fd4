"""Bootstrap resamples of FID: the same for a seed, and their differences hold the truth."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flowquant.config.comparisons import Level
from flowquant.evaluation.bootstrap import resample_counts
from flowquant.evaluation.frechet import Reference
from flowquant.report.intervals import Measured, interval

CPU = torch.device("cpu")
SAMPLES: tuple[Level, ...] = ("samples",)


def draws(n: int, size: int, seed: int) -> Tensor:
    """Features that go together."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    return torch.randn(n, size, generator=generator) @ mixed


def measured(reference: Reference, features: Tensor, counts: Tensor) -> Measured:
    resampled = reference.distances(features, counts).numpy()
    return Measured(np.array([[reference.distance(features)]]), resampled[None, None])


def test_pairs_make_the_interval_narrow_and_it_holds_the_truth() -> None:
    reference = Reference(draws(2000, 8, 1), CPU)
    held, widths = 0, []
    for seed in range(20):
        counts = resample_counts(200, 100, seed)
        common = draws(200, 8, 10 + seed)
        # Of all samples, which there are without end, the FIDs are known: 0 and the shift's square.
        a, b, other = (
            measured(reference, features, counts)
            for features in (common + 0.5, common, draws(200, 8, 100 + seed))
        )
        paired, apart = interval(a - b, SAMPLES), interval(a - other, SAMPLES)
        assert paired is not None
        assert apart is not None
        assert paired.low <= paired.high
        held += paired.low < 8 * 0.5**2 < paired.high
        widths.append((paired.high - paired.low, apart.high - apart.low))
    assert held >= 16
    assert sum(narrow for narrow, _ in widths) < 0.7 * sum(wide for _, wide in widths)


def test_resamples_follow_from_the_seed_alone() -> None:
    assert resample_counts(30, 4, 0).equal(resample_counts(30, 4, 0))
    assert not resample_counts(30, 4, 0).equal(resample_counts(30, 4, 1))
    # The first ones are the same, however many follow.
    assert resample_counts(30, 8, 0)[:4].equal(resample_counts(30, 4, 0))
    assert resample_counts(30, 4, 0).sum(1).tolist() == [30] * 4
    assert resample_counts(30, 0, 0).shape == (0, 30)
