"""Results laid out by seeds, for intervals."""

from __future__ import annotations

from typing import Any

from flowquant.config.variants import Variant
from flowquant.report.certainty import fids, intervals, over_seeds
from scored import scored

OT = Variant("ot", 2)


def result(training: int | None, seed: int, **more: Any) -> dict[str, Any]:
    named = {"dataset": "a", "variant": OT, "training_seed": training, "seed": seed, "n": 9}
    return scored(10.0 * (training or 0) + seed, **more) | named


def test_results_lie_by_training_seed_and_sampling_seed() -> None:
    found = over_seeds([result(t, s) for s in (2, 0) for t in (1, 0)])
    assert found is not None
    measured = fids(found)
    assert measured is not None
    assert measured.values.tolist() == [[0, 2], [10, 12]]
    assert measured.resampled[1, 1].tolist() == [11.5, 12.5]
    assert over_seeds([result(None, 0)]) is not None


def test_what_is_not_complete_has_no_interval() -> None:
    missing = [result(0, 0), result(0, 1), result(1, 0)]
    assert over_seeds(missing) is None
    assert over_seeds([result(0, 0), result(0, 0)]) is None
    uneven = [result(0, 0), result(0, 1, fid_resampled=[1.0])]
    assert fids([uneven]) is None
    assert intervals(missing, []) == {}


def test_one_seed_has_intervals_of_what_is_resampled() -> None:
    said = {"dataset": "a", "variant": OT, "training_seed": 0, "seed": 0, "n": 50, "accuracy": 1.0}
    found = intervals([result(0, 0)], [said])
    assert found["a", OT, "classifier"].keys() == {"fid_low", "fid_high", "over"}
    # A metric ends where it ends.
    assert found["a", OT, "classifier"]["fid_low"] == 0
    assert found["a", OT, None] == {"accuracy_low": 1, "accuracy_high": 1}
