"""Pages of HTML: tables and the page that a report opens on."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flowquant.config.variants import Variant
from flowquant.report.overview import compared, headline, headline_table, unbeaten, versions
from flowquant.report.page import html_table, picture
from flowquant.report.tables import Row, write_table
from flowquant.runtime.errors import UserError
from flowquant.stages.report_overview import report_overview
from flowquant.stages.report_table import report_table


class Read(HTMLParser):
    """The cells of a page's tables, and what its tags need from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.needed: list[str] = []
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.rows.append([])
        self._cell = tag in {"td", "th"}
        if self._cell:
            self.rows[-1].append("")
        self.needed += [
            value for name, value in attrs if name in {"src", "href"} and value is not None
        ]

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in {"td", "th"}

    def handle_data(self, data: str) -> None:
        if self._cell:
            self.rows[-1][-1] += data


def row(name: str, size: int | None, fid: float, **others: Any) -> Row:
    return {
        "variant": Variant.parse(name),
        "bytes": size,
        "effective_bits": None if size is None else size / 10,
        "fid": fid,
        "accuracy": None,
        "caveats": "",
    } | others


ROWS = [
    row("real", None, 1.0),
    row("full", 320, 10.0),
    row("ot/8bit", 82, 11.0),
    row("ot/2bit", 22, 90.0, caveats="few_images"),
    row("refined/2bit", 21, 12.0, fid_low=11.5, fid_high=12.75),
]


def test_cells_are_shown_as_they_are_and_sorted_by_what_they_are() -> None:
    text = html_table({"what": True, "how much": False}, [["<b> & c", ("1,000", 1e3)]])
    assert Read(text).rows == [["what", "how much"], ["<b> & c", "1,000"]]
    assert "<b>" not in text
    assert 'data-order="1000.0"' in text


def test_the_headline_is_the_smallest_file_that_is_about_as_good() -> None:
    text = headline(ROWS)
    assert "refined 2bit" in text
    assert "FID 12 beside 10" in text
    assert "in 21 B instead of 320 B" in text
    # With none that is: the nearest, and that it is not near.
    text = headline([ROWS[1], ROWS[3]])
    assert text.startswith("No FID comes within 25% of full precision's; the nearest")
    assert "ot 2bit" in text
    assert headline(ROWS[:2]) == ""


def test_what_was_compared() -> None:
    found = compared(ROWS)
    assert found == "<strong>ot</strong> at 8 and 2 bits; <strong>refined</strong> at 2 bits"


def test_the_headline_table_has_intervals_and_notes() -> None:
    text = headline_table(ROWS)
    rows = Read(text).rows
    assert rows[0] == ["variant", "bits a weight", "stored size", "FID"]
    # The largest first, after the real images.
    assert [cells[0] for cells in rows[1:]] == [
        *("real", "full", "ot 8bit", "ot 2bit ¹", "refined 2bit")
    ]
    assert rows[-1][-1] == "12.00 [11.50, 12.75]"
    assert rows[2][-1] == "10.00"
    assert "¹ no more images" in text


def test_long_tables_show_what_nothing_beats() -> None:
    assert [str(r["variant"]) for r in unbeaten(ROWS)] == [
        "real",
        "full",
        "ot/8bit",
        "refined/2bit",
    ]
    many = [*ROWS, *(row(f"worse/{bits}bit", 100 + bits, 80.0) for bits in range(1, 20))]
    text = headline_table(many)
    assert "worse" not in text
    assert "20 more" in text


def test_versions_are_those_that_run() -> None:
    import torch

    assert torch.__version__.startswith(versions()["torch"])


@pytest.fixture
def summary(tmp_path: Path) -> Path:
    shared = {"dataset": "mnist", "n": 5, "n_real": 6, "seeds": "0 1", "extractor": "classifier"}
    rows = [shared | {"real_accuracy": None} | r for r in ROWS]
    path = tmp_path / "summary.csv"
    write_table(path, list(rows[-1]), rows)
    return path


def test_the_overview_needs_nothing_but_itself(summary: Path, tmp_path: Path) -> None:
    figure, devices = tmp_path / "fid.svg", tmp_path / "devices.jsonl"
    figure.write_text('<svg xmlns="http://www.w3.org/2000/svg"/>' + " " * 20_000)
    devices.write_text(
        '{"run": 1, "process": 2, "stage": "train", "output": "x", "devices": ["0"], '
        '"kind": "A GPU", "started": 1.0, "claimed": 2.0}\n'
    )
    output = tmp_path / "overview.html"
    report_overview(summary, "mine", ("mnist",), output, figures=(figure,), devices=devices)
    text = output.read_text()
    assert "Run “mine”" in text
    assert ["computed on", "A GPU"] in Read(text).rows
    assert all(needed.startswith("data:image/svg+xml") for needed in Read(text).needed)
    # reStructuredText, which a report's first page is written in, takes no lines beyond 10,000.
    assert max(map(len, text.splitlines())) < 10_000
    # Without what is not there, and without what browsers do not show.
    report_overview(
        *(summary, "mine", ("mnist",), output),
        figures=(tmp_path / "fid.pdf",),
        devices=tmp_path / "none.jsonl",
    )
    assert "<img" not in output.read_text()


def test_a_page_of_a_table(summary: Path, tmp_path: Path) -> None:
    output = tmp_path / "page.html"
    report_table(summary, "mnist: <every> variant", output)
    text = output.read_text()
    read = Read(text)
    assert not read.needed
    assert len(read.rows) == len(ROWS) + 1
    titles = read.rows[0]
    assert read.rows[2][titles.index("bytes")] == "320"
    # What all rows share is hidden: the dataset, and cells without anything.
    hidden = text.partition("columnDefs: [{ targets: [")[2].partition("]")[0]
    assert {titles[int(place)] for place in hidden.split(",")} == {
        *("dataset", "n", "n_real", "seeds", "extractor", "real_accuracy", "accuracy")
    }
    assert "mnist: &lt;every&gt; variant" in text
    summary.write_text("a,b\n1\n")
    with pytest.raises(UserError, match=r"summary\.csv, line 2.*1 cells"):
        report_table(summary, "t", output)
    summary.write_text("")
    with pytest.raises(UserError, match="a table in CSV"):
        report_table(summary, "t", output)


def test_a_picture_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert picture(tmp_path / "a.png", 'of "x"').startswith(
        '<img alt="of &quot;x&quot;" src="data:image/png'
    )


@pytest.mark.parametrize("name", ["a.png", "a.svg"])
def test_a_picture_that_is_none(name: str, tmp_path: Path) -> None:
    for content in (b"", b"another"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: found no such picture; expected a picture"):
            picture(tmp_path / name, "x")
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=name):
        picture(tmp_path / name, "x")
