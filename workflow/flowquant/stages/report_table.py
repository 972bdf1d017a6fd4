"""A table of a run's results as a page that sorts and searches it."""

import csv
import io
from pathlib import Path

from flowquant.report.page import Cell, html_table, sortable_page
from flowquant.report.tables import REMEDY
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import read_text, write_text


def report_table(table: Path, title: str, output: Path) -> None:
    """Make a page of a table, for `snakemake --report` or a browser.

    Numbers are shown to four digits and sort by all they have. Columns that say the same in all
    rows are hidden until a reader asks for them.

    Args:
        table: CSV file under a header.
        title: What the page is called.
        output: HTML to write; it needs no other file and no network.

    Raises:
        UserError: if the table is unreadable or has rows of another length than its header.
    """
    try:
        columns, *rows = csv.reader(io.StringIO(read_text(table), newline=""), strict=True)
    except (ValueError, csv.Error) as error:
        raise UserError(
            table, found=str(error), expected="a table in CSV", remedy=REMEDY
        ) from error
    if len(columns) == 1:  # as any line of text has
        raise UserError(table, found="one column", expected="a table in CSV", remedy=REMEDY)
    for number, row in enumerate(rows, 2):
        if len(row) != len(columns):
            raise UserError(
                f"{table}, line {number}",
                found=f"{len(row)} cells",
                expected=f"one for each of {len(columns)} columns",
                remedy=REMEDY,
            )
    cells = [list(map(_cell, row)) for row in rows]
    texts = {
        column: any(isinstance(row[place], str) and row[place] for row in cells)
        for place, column in enumerate(columns)
    }
    # What all rows share tells none of them from another.
    same = [place for place in range(len(columns)) if len({row[place] for row in rows}) == 1]
    hidden = same if len(rows) > 1 else []
    write_text(output, sortable_page(title, table.stem, html_table(texts, cells), hidden))


def _cell(text: str) -> Cell:
    try:
        value = float(text)
    except ValueError:
        return text
    whole = value.is_integer() and abs(value) < 1e15
    return (f"{value:,.0f}" if whole else f"{value:.4g}"), value
