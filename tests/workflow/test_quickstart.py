"""What `make quickstart` promises, checked on what it left; CI runs it first."""

import csv
import os
from pathlib import Path

import pytest

from project import ROOT

RESULTS = ROOT / "results/quickstart"


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, str]]:
    path = RESULTS / "summary.csv"
    if not path.exists():
        message = "no results: run `make quickstart` first"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with path.open(newline="") as file:
        return {row["variant"]: row for row in csv.DictReader(file)}


def test_all_variants_are_there(rows: dict[str, dict[str, str]]) -> None:
    quantized = {f"{method}/{bits}bit" for method in ("uniform", "ot") for bits in (2, 4, 8, 16)}
    assert set(rows) == {"real", "full", "refined/2bit", "refined/1bit"} | quantized
    assert all(row["n"] == "1000" for row in rows.values())


def test_the_classifier_and_the_full_model_are_good(rows: dict[str, dict[str, str]]) -> None:
    assert float(rows["full"]["real_accuracy"]) >= 0.95
    assert float(rows["full"]["accuracy"]) >= 0.90


def test_two_bit_files_are_about_a_sixteenth(rows: dict[str, dict[str, str]]) -> None:
    """Of the weights: names and provenance, some 20 kB, show beside a network this small."""
    weights = int(rows["full"]["bytes"]) / 4
    for method in ("uniform", "ot"):
        row = rows[f"{method}/2bit"]
        assert float(row["effective_bits"]) < 32 / 16 * 1.05
        assert int(row["bytes"]) < weights * float(row["effective_bits"]) / 8 + 24_000


def test_quantization_hurts_as_published(rows: dict[str, dict[str, str]]) -> None:
    """Full precision and 16 bits alike; 2 bits break both methods, uniform the most."""
    fid = {variant: float(row["fid"]) for variant, row in rows.items()}
    assert fid["real"] < fid["full"]
    assert fid["ot/16bit"] == pytest.approx(fid["full"], rel=0.02)
    assert fid["full"] < fid["ot/4bit"] < fid["ot/2bit"] < fid["uniform/2bit"]


def test_refined_ones_keep_what_others_lose_at_twice_the_size(
    rows: dict[str, dict[str, str]],
) -> None:
    fid = {variant: float(row["fid"]) for variant, row in rows.items()}
    size = {variant: int(row["bytes"]) for variant, row in rows.items() if row["bytes"]}
    assert fid["refined/2bit"] < 1.25 * fid["full"]
    assert fid["refined/2bit"] < fid["refined/1bit"] < 0.5 * fid["ot/4bit"]
    assert size["refined/1bit"] < 0.5 * size["ot/4bit"]
    assert float(rows["refined/2bit"]["accuracy"]) > float(rows["full"]["accuracy"]) - 0.03


def test_plots_and_grids_are_there(rows: dict[str, dict[str, str]]) -> None:
    for name in ("fid", "fid_bits", "is", "accuracy", "samples", "levels", "curves"):
        for suffix in ("png", "svg"):
            assert (RESULTS / f"plots/digits_{name}.{suffix}").stat().st_size > 1000
    assert "refined 2bit" in (RESULTS / "report.html").read_text()
    grids = sorted(Path(RESULTS / "sampling/digits").rglob("*.png"))
    assert len(grids) == 11
