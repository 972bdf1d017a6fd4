"""Means over seeds, and how results nest."""

from __future__ import annotations

import re
from typing import Any

from flowquant.config.variants import Variant
from flowquant.report.summary import (
    COLUMNS,
    LARGER,
    as_markdown,
    average,
    by_variant,
    evaluated,
    nest,
    table_rows,
)
from flowquant.report.tidy import observations
from scored import scored

FULL, OT, REAL = Variant("full"), Variant("ot", 2), Variant("real")


def result(variant: Variant, training: int | None, seed: int, value: float) -> dict[str, Any]:
    named = {"dataset": "a", "variant": variant, "training_seed": training, "seed": seed, "n": 5}
    return scored(value, evaluations=None if variant.is_real else 8) | named


def test_one_seed_has_no_deviation() -> None:
    observed = observations([result(FULL, 0, 0, 1.0)])
    assert "fid_std" not in average(observed, "classifier", ("fid",))


def test_means_are_over_training_and_sampling_seeds() -> None:
    observed = observations([result(OT, t, s, 10.0 * t + s) for t in (0, 1) for s in (0, 2)])
    found = average(observed, "classifier", ("fid", "recall"))
    assert (found["fid"], found["recall"]) == (6, 6)
    assert (found["seeds"], found["training_seeds"]) == ([0, 2], [0, 1])
    [row] = table_rows(observed, ["classifier"], {}, {})
    assert (row["fid"], row["seeds"], row["training_seeds"]) == (6, "0 2", "0 1")


def test_nothing_of_an_extractor_is_no_row() -> None:
    observed = observations([result(OT, 0, 0, 1.0)])
    assert average(observed, "another", ("fid",)) == {}
    assert table_rows(observed, ["another"], {}, {}) == []


def test_real_images_cost_no_evaluations() -> None:
    observed = observations([result(REAL, None, 0, 1.0), result(FULL, 0, 0, 1.0)])
    found = evaluated(observed, "classifier")
    assert [summary["evaluations"] for summary in found.values()] == [None, 8]


def test_sizes_of_several_models_are_averaged() -> None:
    sizes = [
        {"dataset": "a", "variant": OT, "training_seed": seed, "counted": False}
        | {"effective_bits": 2.0 + seed, "bytes": 1000 + seed}
        for seed in (0, 1)
    ]
    [row] = table_rows(observations([result(OT, 0, 0, 1.0)], sizes=sizes), ["classifier"], {}, {})
    assert (row["effective_bits"], row["bytes"]) == (2.5, 1000)


def test_nesting() -> None:
    assert nest({("a", FULL): {"x": 1}, ("a", OT): {"x": 2}}) == {
        "a": {"full": {"x": 1}, "ot": {"ot_2bit": {"x": 2}}}
    }


def test_rows_group_by_variant() -> None:
    rows = [{"dataset": d, "variant": v} for d, v in (("b", FULL), ("a", OT), ("a", FULL))]
    assert list(by_variant(rows)) == [("a", FULL), ("a", OT), ("b", FULL)]


def test_the_largest_files_stand_first_and_why_one_exceeds_full_precision() -> None:
    def row(name: str, size: int) -> dict[str, Any]:
        told = {"dataset": "a", "variant": Variant.parse(name, "here"), "bytes": size}
        rest = {"extractor": "e", "caveats": "", "n": 9, "seeds": "0", "training_seeds": "0"}
        return dict.fromkeys(COLUMNS) | rest | told

    table = as_markdown([row("full", 100), row("ot/2bit", 10), row("ot/16bit", 120)])
    assert re.findall(r"^\| a \| (\S+)", table, re.MULTILINE) == ["ot/16bit", "full", "ot/2bit"]
    assert LARGER in table
    assert LARGER not in as_markdown([row("full", 100), row("ot/2bit", 10)])
