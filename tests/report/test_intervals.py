"""Intervals, against cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import expon, norm, t

from flowquant.config.comparisons import Level
from flowquant.report.intervals import Measured, interval, proportion

RNG = np.random.default_rng(7)
NORMAL, EXPONENTIAL = (d.ppf((np.arange(999) + 0.5) / 999) for d in (norm, expon))


SAMPLES: tuple[Level, ...] = ("samples",)
SAMPLING: tuple[Level, ...] = ("sampling seeds",)
TRAINING: tuple[Level, ...] = ("training seeds",)


def measured(values: list[list[float]], resampled: object = None) -> Measured:
    found = np.array(values)
    given = np.empty((*found.shape, 0)) if resampled is None else np.asarray(resampled)
    return Measured(found, given)


def test_of_one_seed_it_is_the_quantiles_of_resamples() -> None:
    """Whose mean has a bias, which the interval has not."""
    one = measured([[10.0]], 13 + 2 * NORMAL[None, None])
    assert one.levels == SAMPLES
    found = interval(one, one.levels)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((10 - 3.92, 10 + 3.92), abs=0.15)
    # None of 999 reaches as far as 0.
    assert found.p == pytest.approx(2 / 1000)


def test_it_is_mirrored() -> None:
    """Resamples that reach far up leave room below."""
    found = interval(measured([[0.0]], EXPONENTIAL[None, None]), SAMPLES)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((1 - 3.69, 1 - 0.025), abs=0.2)


def test_a_paired_difference_is_narrow() -> None:
    """What chance does to both alike cancels."""
    shared = 5 * NORMAL[None, None]
    a, b = measured([[10.0]], 10 + shared), measured([[9.0]], 9 + shared + 0.1 * NORMAL[::-1])
    found = interval(a - b, SAMPLES)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((1 - 0.196, 1 + 0.196), abs=0.02)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_seeds_alone_give_nearly_students_interval(seeds: int) -> None:
    values = RNG.normal(size=(200, seeds))
    half, by_hand = [], []
    for row in values:
        found = interval(measured([[float(value)] for value in row]), TRAINING)
        again = interval(measured([[float(value) for value in row]]), SAMPLING)
        assert found is not None
        assert again is not None
        assert again.high - again.low == pytest.approx(found.high - found.low, rel=0.1)
        half.append((found.high - found.low) / 2)
        by_hand.append(t.ppf(0.975, seeds - 1) * row.std(ddof=1) / seeds**0.5)
    assert np.mean(half) == pytest.approx(np.mean(by_hand), rel=0.3)


@pytest.mark.parametrize(
    ("trainings", "seeds", "retraining"), [(3, 3, 3.0), (2, 3, 3.0), (3, 3, 0.3), (1, 3, 0.0)]
)
def test_19_in_20_hold_the_truth(
    monkeypatch: pytest.MonkeyPatch, trainings: int, seeds: int, retraining: float
) -> None:
    """Of few seeds, whose variances are known; more of them where retraining changes little."""
    monkeypatch.setattr("flowquant.report.intervals.DRAWS", 500)
    held, shape = [], (trainings, seeds)
    for _ in range(300):
        values = 5 + RNG.normal(scale=retraining, size=(trainings, 1)) + RNG.normal(size=shape)
        one = Measured(values, values[..., None] + RNG.normal(size=(*shape, 50)))
        found = interval(one, one.levels)
        assert found is not None
        held.append(found.low < 5 < found.high)
    assert np.mean(held) > 0.91


def test_a_level_that_is_not_asked_for_is_not_drawn() -> None:
    apart = measured([[0.0, 1.0], [10.0, 11.0]], np.zeros((2, 2, 9)))
    assert apart.levels == ("samples", "sampling seeds", "training seeds")
    widths = []
    for over in (SAMPLES, SAMPLING, apart.levels):
        found = interval(apart, over)
        assert found is not None
        widths.append(found.high - found.low)
    assert widths[0] == 0
    assert 0 < widths[1] < 5 < widths[2]
    assert interval(measured([[1.0]]), ()) is None
    assert measured([[1.0]]).levels == ()


def test_training_seeds_that_agree_widen_nothing() -> None:
    same = measured([[5.0], [5.0]], 5 + NORMAL[None, None] * np.ones((2, 1, 1)))
    found = interval(same, same.levels)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((5 - 1.96 / 2**0.5, 5 + 1.96 / 2**0.5), abs=0.1)


def test_variants_that_are_the_same_do_not_differ() -> None:
    one = measured([[1.0]], NORMAL[None, None])
    found = interval(one - one, SAMPLES)
    assert found is not None
    assert (found.low, found.high, found.p) == (0, 0, 1)


def test_a_proportion_is_as_sure_as_its_count() -> None:
    found = proportion(np.array([[0.9]]), np.array([[1000]]))
    reach = interval(found, found.levels)
    assert reach is not None
    half = 1.96 * (0.9 * 0.1 / 1000) ** 0.5
    assert (reach.low, reach.high) == pytest.approx((0.9 - half, 0.9 + half), abs=0.003)
