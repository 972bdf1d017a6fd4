"""The tidy table of results: what goes in comes out, and nothing of another version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowquant.config.variants import Variant
from flowquant.report.tables import write_table
from flowquant.report.tidy import COLUMNS, observations, read_observations
from flowquant.runtime.errors import UserError
from scored import scored

OT = Variant("ot", 2)
NAMED: dict[str, Any] = {"dataset": "mnist", "variant": OT, "training_seed": 1}


@pytest.fixture
def observed() -> list[dict[str, Any]]:
    samples = NAMED | {"seed": 3, "n": 100}
    return observations(
        [scored(2.0, evaluations=8, fid_infinity=None) | samples],
        [samples | {"accuracy": 0.5, "precision": 0.6, "recall": 0.7, "f1": 0.8}],
        [samples | {"psnr": 20.0, "ssim": 0.9}],
        [NAMED | {"effective_bits": 2.1, "bytes": 99, "counted": True}],
        [{"dataset": "mnist", "test_accuracy": 0.99}],
    )


def values(rows: list[dict[str, Any]], metric: str) -> list[tuple[Any, ...]]:
    keys = ("variant", "training_seed", "sampling_seed", "extractor", "n", "value")
    return [tuple(row[key] for key in keys) for row in rows if row["metric"] == metric]


def test_a_row_for_each_number(observed: list[dict[str, Any]]) -> None:
    assert values(observed, "fid") == [(OT, 1, 3, "classifier", 100, 2.0)]
    assert values(observed, "fid_at") == [
        (OT, 1, 3, "classifier", 500, 3.0),
        (OT, 1, 3, "classifier", 1000, 2.0),
    ]
    assert values(observed, "fid_infinity") == []
    assert values(observed, "recall") == [(OT, 1, 3, "classifier", 100, 2.0)]
    assert values(observed, "class_recall") == [(OT, 1, 3, None, 100, 0.7)]
    assert values(observed, "psnr") == [(OT, 1, 3, None, 100, 20.0)]
    assert values(observed, "counted_bytes") == [(OT, 1, None, None, None, 99)]
    assert values(observed, "bytes") == []
    assert values(observed, "accuracy") == [
        (Variant("real"), None, None, None, None, 0.99),
        (OT, 1, 3, None, 100, 0.5),
    ]


def test_a_file_is_read_as_it_was_written(observed: list[dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    write_table(path, COLUMNS, observed)
    assert read_observations(path, "mnist") == observed


@pytest.mark.parametrize("version", ["0", "2", ""])
def test_another_version_is_refused(
    observed: list[dict[str, Any]], tmp_path: Path, version: str
) -> None:
    path = tmp_path / "results.csv"
    write_table(path, COLUMNS, [row | {"version": version} for row in observed])
    with pytest.raises(UserError, match=r"results.csv: found results of version .*; expected .*1"):
        read_observations(path, "mnist")
