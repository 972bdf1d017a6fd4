"""Means over seeds, and how results nest."""

from flowquant.config.variants import Variant
from flowquant.report.summary import EVALUATION, average, average_evaluations, by_variant, nest

FULL, OT = Variant("full"), Variant("ot", 2)


def test_one_seed_has_no_deviation() -> None:
    result = {"seed": 0, "n": 5} | dict.fromkeys(EVALUATION, 1.0)
    assert "fid_std" not in average([result], EVALUATION)


def test_real_images_cost_no_evaluations() -> None:
    result = {"dataset": "a", "n": 5, "n_real": 9, "seed": 0, "evaluations": None}
    result |= {"extractor": "classifier", "features": 3}
    result |= dict.fromkeys(EVALUATION, 1.0)
    results = [result | {"variant": Variant("real")}, result | {"variant": FULL, "evaluations": 8}]
    found = average_evaluations(results)
    assert [summary["evaluations"] for summary in found.values()] == [None, 8]


def test_nesting() -> None:
    assert nest({("a", FULL): {"x": 1}, ("a", OT): {"x": 2}}) == {
        "a": {"full": {"x": 1}, "ot": {"ot_2bit": {"x": 2}}}
    }


def test_results_group_by_variant() -> None:
    results = [
        {"dataset": dataset, "variant": variant, "seed": seed}
        for dataset, variant, seed in (("b", FULL, 0), ("a", OT, 0), ("a", FULL, 3), ("a", FULL, 1))
    ]
    groups = by_variant(results)
    assert list(groups) == [("a", FULL), ("a", OT), ("b", FULL)]
    assert [result["seed"] for result in groups["a", FULL]] == [1, 3]
