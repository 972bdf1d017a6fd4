"""Where numbers mean little, and that readers are told what each caveat is."""

import pytest

from flowquant.config.variants import Variant
from flowquant.report.caveats import MEANINGS, caveats, concerning, few_images, weak_classifier
from flowquant.report.tables import Row
from project import ROOT


def row(variant: Variant, **changed: object) -> Row:
    return {
        "dataset": "mnist",
        "variant": variant,
        "n": 1000,
        "n_real": 10_000,
        "extractor": "classifier",
        "features": 512,
        "fid": 2.0,
        "accuracy": None,
        "real_accuracy": 0.99,
    } | changed


REAL, FULL, OT = Variant("real"), Variant("full"), Variant("ot", 2)


@pytest.mark.parametrize(
    ("n", "n_real", "features", "few"),
    [(513, 513, 512, False), (512, 513, 512, True), (513, 512, 512, True)],
)
def test_a_covariance_needs_more_images_than_features(
    n: int, n_real: int, features: int, few: bool
) -> None:
    assert few_images(n, n_real, features) == few


def test_nine_tenths_of_what_is_known_are_enough() -> None:
    assert weak_classifier(0.854, 0.95)
    assert not weak_classifier(0.856, 0.95)
    assert not weak_classifier(0.61, 0.67)


def test_a_floor_is_compared_within_its_dataset() -> None:
    rows = [row(REAL, fid=1.8), row(FULL, fid=1.3), row(OT, fid=9.0)]
    rows += [row(REAL, dataset="other", fid=1.0), row(FULL, dataset="other", fid=1.3)]
    expected = [["below_floor"], ["below_floor"], [], [], []]
    assert caveats(rows, {"mnist": 0.995, "other": 0.995}) == expected
    assert caveats([row(FULL), row(OT)], {}) == [[], []]


def test_a_classifier_counts_where_it_is_asked() -> None:
    weak = {"real_accuracy": 0.61, "extractor": "inception-v3-compat"}
    rows = [row(REAL, **weak), row(FULL, **weak | {"accuracy": 0.5}), row(OT, real_accuracy=0.61)]
    assert caveats(rows, {"mnist": 0.67}) == [[], [], []]
    assert caveats(rows, {"mnist": 0.995}) == [[], ["weak_classifier"], ["weak_classifier"]]
    # Nobody said what the dataset allows: all.
    assert caveats(rows, {}) == [[], ["weak_classifier"], ["weak_classifier"]]


def test_a_figure_names_what_it_shows() -> None:
    rows = [row(FULL, caveats="few_images weak_classifier"), row(OT, caveats="below_floor")]
    assert concerning("fid", rows) == ["few_images", "weak_classifier", "below_floor"]
    assert concerning("is", rows) == concerning("accuracy", rows) == ["weak_classifier"]
    rows[0]["extractor"] = "inception-v3-compat"
    assert concerning("fid", rows) == ["few_images", "below_floor"]
    assert concerning("is", rows) == []
    assert concerning("accuracy", rows) == ["weak_classifier"]


def test_the_caption_of_the_table_explains_each() -> None:
    caption = (ROOT / "workflow/report/summary.rst").read_text(encoding="utf-8")
    assert all(f"``{name}``" in caption for name in MEANINGS)
