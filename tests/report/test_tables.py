"""Tables: Markdown as people read it, CSV as it is written and read back."""

import json
from pathlib import Path
from typing import Any

import pytest

from flowquant.config.variants import Variant
from flowquant.report.results import Result
from flowquant.report.tables import (
    markdown,
    read_json_lines,
    read_results,
    read_table,
    shown,
    write_table,
)
from flowquant.runtime.errors import UserError

COLUMNS = ("dataset", "variant", "seeds", "fid", "accuracy")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "summary.csv"
    rows: list[dict[str, Any]] = [
        {"dataset": "mnist", "variant": Variant("full"), "seeds": "0 1", "fid": 1.5},
        {"dataset": "mnist", "variant": Variant("ot", 2), "fid": 1e2, "accuracy": 0.9},
        {"dataset": "digits", "variant": "odd", "fid": "?"},
    ]
    write_table(path, COLUMNS, rows)
    return path


def test_what_is_written_is_read(table: Path) -> None:
    assert table.read_text().splitlines()[1:3] == [
        "mnist,full,0 1,1.5,",
        "mnist,ot/2bit,,100.0,0.9",
    ]
    rows = read_table(table, "mnist", text=["seeds"], numbers=["fid"], optional=["accuracy"])
    assert rows == [
        {"variant": Variant("full"), "seeds": "0 1", "fid": 1.5, "accuracy": None},
        {"variant": Variant("ot", 2), "seeds": "", "fid": 100.0, "accuracy": 0.9},
    ]


@pytest.mark.parametrize(
    ("dataset", "numbers", "message"),
    [
        (
            "mnist",
            ["kid", "fid"],
            r"summary\.csv: found no column kid; expected columns .*kid, fid",
        ),
        (
            "mnist",
            ["accuracy"],
            r"summary\.csv, line 2, column `accuracy`: found ''; .* a finite number",
        ),
        ("digits", ["fid"], r"summary\.csv, line 4, column `fid`: found '\?'"),
        ("digits", [], r"summary\.csv, line 4: found 'odd'; expected a variant"),
        ("cifar10", [], r"summary\.csv: found no rows of 'cifar10'; expected one of mnist, digits"),
    ],
)
def test_what_cannot_be_read_is_named(
    table: Path, dataset: str, numbers: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read_table(table, dataset, numbers=numbers)


@pytest.mark.parametrize("cell", ["nan", "NaN", "inf", "-inf", "1e999"])
def test_no_number_to_draw_is_none(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "summary.csv"
    path.write_text(f"dataset,variant,fid\nmnist,full,{cell}\n")
    for kind in ("numbers", "optional"):
        with pytest.raises(UserError, match=f"line 2, column `fid`: found '{cell}'; .*finite"):
            read_table(path, "mnist", **{kind: ["fid"]})


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    damaged, empty = tmp_path / "damaged.csv", tmp_path / "empty.csv"
    damaged.write_bytes(b"\xff\xfe\x00")
    empty.touch()
    for path in (damaged, empty, tmp_path / "missing.csv"):
        with pytest.raises(UserError, match=path.name):
            read_table(path, "mnist")


def test_results_of_variants(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps({"dataset": "mnist", "variant": "ot/2bit", "more": 1}))
    expected = [{"dataset": "mnist", "variant": Variant("ot", 2), "training_seed": None}]
    assert read_results([path], Result) == expected
    path.write_text(json.dumps({"dataset": "mnist"}))
    with pytest.raises(UserError, match=r"result\.json: found no `variant`"):
        read_results([path], Result)


def test_markdown() -> None:
    rows = [["ot/2bit", "mnist", shown(1.234, ".1f")], ["full", "digits", shown(None, ".1f")]]
    assert markdown(["variant", "dataset", "FID"], rows, left=2).splitlines() == [
        "| variant | dataset | FID |",
        "|:--|:--|--:|",
        "| ot/2bit | mnist | 1.2 |",
        "| full | digits | – |",
    ]
    assert markdown(["variant", "dataset", "FID"], rows, padded=True).splitlines() == [
        "| variant | dataset | FID |",
        "| :------ | ------: | --: |",
        "| ot/2bit |   mnist | 1.2 |",
        "| full    |  digits |   – |",
    ]
    with pytest.raises(ValueError, match="argument"):
        markdown(["variant", "FID"], [["full"]])


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ('{"a": 1}\n{"a": \n', r"lines, line 2: found .*; expected rows"),
        ("\xff", "lines: found .*; expected rows"),
        (None, "lines: found .*; expected rows"),
    ],
)
def test_lines_of_json_that_are_none(tmp_path: Path, content: str | None, found: str) -> None:
    path = tmp_path / "lines"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=found):
        list(read_json_lines(path, "rows"))
    path.write_text('{"a": 1}\n{"a": 2}\n')
    assert [content for _, content in read_json_lines(path, "rows")] == [{"a": 1}, {"a": 2}]
