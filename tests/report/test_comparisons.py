"""Pairs of variants: which, and that only what belongs together is compared."""

from __future__ import annotations

from typing import Any

import pytest

from flowquant.config.comparisons import ComparisonsSection
from flowquant.config.variants import Variant
from flowquant.report.comparisons import as_markdown, comparison_rows, usual_pairs
from flowquant.runtime.errors import UserError
from scored import scored

FULL = Variant("full")
BITS = {
    "full": 32.0,
    "ot/2bit": 2.0,
    "ot/4bit": 4.0,
    "ot/8bit": 8.0,
    "refined/2bit": 2.1,
    "refined/1bit": 1.1,
    "hqq/4bit": 4.5,
    "hqq/1bit": 1.0,
}
FIDS = dict(zip(BITS, (1.0, 30.0, 9.0, 2.0, 3.0, 8.0, 8.5, 99.0), strict=True))


def named(values: dict[str, float]) -> dict[Variant, float]:
    return {Variant.parse(name): value for name, value in values.items()}


def evaluated(
    fids: dict[str, float], seeds: tuple[int, ...] = (0,), trainings: tuple[int, ...] = (0,)
) -> dict[Variant, list[dict[str, Any]]]:
    return {
        variant: [
            scored(fid + training + seed)
            | {"dataset": "mnist", "variant": variant, "training_seed": training, "seed": seed}
            | {"n": 1000, "start": f"noise {seed}"}
            for training in trainings
            for seed in seeds
        ]
        for variant, fid in named(fids).items()
    }


def compared(results: dict[Variant, list[dict[str, Any]]], **settings: Any) -> list[dict[str, Any]]:
    said = ComparisonsSection(**settings)
    return comparison_rows(results, named(BITS), said, ("ot",), ("hqq",))


def test_the_pairs_that_matter() -> None:
    found = [(str(a), str(b)) for a, b in usual_pairs(named(BITS), named(FIDS), ["ot"], ["hqq"])]
    against = {name: {b for a, b in found if a == name} for name in BITS}
    assert len(set(found)) == len(found)
    assert against == {
        "full": set(),
        # The best that is not larger than hqq/4bit is none of these, and nothing is than hqq/1bit.
        **{name: {"full"} for name in ("ot/2bit", "ot/4bit", "ot/8bit", "hqq/4bit", "hqq/1bit")},
        # Of its width, though that is smaller; the smallest that is not smaller; of each peer so.
        "refined/2bit": {"full", "ot/2bit", "ot/4bit", "hqq/4bit"},
        "refined/1bit": {"full", "ot/2bit", "hqq/1bit", "hqq/4bit"},
    }


def test_the_best_at_no_more_bits_is_beside_a_peer() -> None:
    fids = named(FIDS | {"ot/4bit": 2.5})
    assert (Variant("ot", 4), Variant("hqq", 4)) in usual_pairs(named(BITS), fids, ["ot"], ["hqq"])


def test_pairs_of_ones_own_alone() -> None:
    rows = compared(evaluated(FIDS), usual=False, pairs=[("ot/8bit", "hqq/4bit")])
    assert [(str(row["variant"]), str(row["other"])) for row in rows] == [("ot/8bit", "hqq/4bit")]
    row = rows[0]
    assert (row["difference"], row["fid"], row["other_fid"]) == (2.0 - 8.5, 2.0, 8.5)
    assert row["ratio"] == pytest.approx(2 / 8.5)
    assert (row["effective_bits"], row["other_effective_bits"]) == (8.0, 4.5)
    assert (row["n"], row["training_seeds"], row["sampling_seeds"]) == (1000, "0", "0")
    # Both have the same two resamples about their means, and two tell little.
    assert (row["low"], row["high"], row["p"]) == (-6.5, -6.5, pytest.approx(2 / 3))
    assert row["over"] == "samples"


def test_it_says_over_what_intervals_are() -> None:
    results = evaluated(FIDS, seeds=(0, 1), trainings=(0, 1))
    pairs: dict[str, Any] = {"usual": False, "pairs": [("ot/2bit", "full")]}
    [row] = compared(results, **pairs)
    assert row["over"] == "samples, sampling seeds and training seeds"
    assert (row["training_seeds"], row["sampling_seeds"]) == ("0 1", "0 1")
    [row] = compared(results, **pairs, over=["samples", "training seeds"])
    assert row["over"] == "samples and training seeds"
    table = as_markdown([row])
    assert "| ot/2bit | full | 2.00 | 32.00 | 31.00 | 2.00 | +29.00 [+29.00, +29.00] |" in table
    assert "intervals over samples and training seeds." in table


def test_without_resamples_and_seeds_there_is_no_interval() -> None:
    results = evaluated(FIDS)
    for found in results.values():
        found[0]["fid_resampled"] = []
    [row] = compared(results, usual=False, pairs=[("ot/2bit", "full")])
    assert (row["difference"], row["low"], row["high"], row["p"], row["over"]) == (
        *(29, None, None, None),
        "",
    )
    assert "| +29.00 | – |" in as_markdown([row])


@pytest.mark.parametrize(
    ("key", "value"),
    [("start", "another"), ("weights_sha256", "2"), ("n", 999)],
)
def test_samples_that_are_no_pair_are_refused(key: str, value: Any) -> None:
    results = evaluated(FIDS)
    results[FULL][0][key] = value
    with pytest.raises(
        UserError, match=rf"another {key} than of 'full', seed 0; expected the same"
    ):
        compared(results)


def test_missing_seeds_are_refused() -> None:
    results = evaluated(FIDS, seeds=(0, 1), trainings=(0, 1))
    del results[FULL][0]
    with pytest.raises(UserError, match="of 'full': found results of other sampling seeds from"):
        compared(results)
    results = evaluated(FIDS, seeds=(0, 1))
    results[FULL] = results[FULL][:1]
    with pytest.raises(UserError, match="found results of other seeds than of 'full'"):
        compared(results)


def test_one_seed_is_too_few_for_an_interval_over_seeds() -> None:
    with pytest.raises(UserError, match=r"'training seeds', of which .* has but one"):
        compared(evaluated(FIDS, seeds=(0, 1)), over=["training seeds"])


def test_a_variant_that_was_not_evaluated_is_refused() -> None:
    with pytest.raises(UserError, match="found 'lloyd/2bit'; expected one of full, ot/2bit"):
        compared(evaluated(FIDS), pairs=[("lloyd/2bit", "full")])
