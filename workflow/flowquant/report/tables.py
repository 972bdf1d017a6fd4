"""Results read from files, and tables of them: CSV for programs, Markdown for people."""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flowquant.config.variants import Variant
from flowquant.report.results import Result
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.files import atomic, read_json, read_text, refuse_no_numbers
from flowquant.runtime.forms import parse_json

Row = dict[str, Any]
REMEDY = "Delete the file and run the workflow again to have it remade."


def read_results(paths: Iterable[Path], form: type[Result]) -> list[Row]:
    """What stages wrote as JSON, a file a variant (or a seed of it), ``variant`` as a `Variant`.

    Raises:
        UserError: if a file is unreadable, lacks what the form asks for or names no variant.
    """
    found = [(path, read_json(path, form)) for path in paths]
    return [asdict(r) | {"variant": Variant.parse(r.variant, path)} for path, r in found]


def read_json_lines(path: Path, expected: str) -> Iterator[tuple[str, Any]]:
    """Where each line stands, for messages, and what it says.

    Raises:
        UserError: if the file is unreadable, or a line is no JSON; it says what was expected.
    """
    where = str(path)
    try:
        for number, line in enumerate(read_text(path).splitlines(), 1):
            where = f"{path}, line {number}"
            yield where, parse_json(line)
    except (OSError, ValueError) as error:
        raise UserError(where, found=str(error), expected=expected, remedy=REMEDY) from error


def read_table(
    path: Path,
    dataset: str,
    *,
    text: Sequence[str] = (),
    numbers: Sequence[str] = (),
    optional: Sequence[str] = (),
    where_given: Sequence[str] = (),
) -> list[Row]:
    """The rows of one dataset in a table of a run's results.

    Args:
        path: CSV file with columns ``dataset`` and ``variant``.
        dataset: Whose rows.
        text: Columns to read as they are.
        numbers: Columns to read as numbers.
        optional: Columns of numbers whose cells may be empty, which gives None.
        where_given: Columns of the same kind that the table may lack, which gives None, too.

    Returns:
        For each row the columns asked for, and ``variant`` as a `Variant`.

    Raises:
        UserError: if the file is unreadable, lacks a column or the dataset, or a cell is neither a
            finite number nor a variant where one is asked for.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="", strict=True)
        rows = [(reader.line_num, row) for row in reader]
        columns = reader.fieldnames or ()
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(path, found=str(error), expected="a table in CSV", remedy=REMEDY) from error
    wanted = ("dataset", "variant", *text, *numbers, *optional)
    if missing := [name for name in wanted if name not in columns]:
        raise UserError(
            path,
            found=f"no column {some(missing)}",
            expected=f"columns {some(wanted, len(wanted))}",
            remedy=REMEDY,
        )
    absent = dict.fromkeys(set(where_given) - set(columns), "")
    own = [(line, row | absent) for line, row in rows if row["dataset"] == dataset]
    if not own:
        raise UserError(
            path,
            found=f"no rows of '{dataset}'",
            expected=f"one of {some(dict.fromkeys(row['dataset'] for _, row in rows))}",
            remedy="Name a dataset of the run, or run the workflow again to have the table remade.",
        )

    def number(line: int, name: str, cell: str) -> float | None:
        if not cell and name not in numbers:
            return None
        with suppress(ValueError):
            if math.isfinite(value := float(cell)):
                return value
        raise UserError(
            f"{path}, line {line}, column `{name}`",
            found=repr(cell),
            expected="a finite number",
            remedy=REMEDY,
        )

    return [
        {name: row[name] for name in text}
        | {name: number(line, name, row[name]) for name in (*numbers, *optional, *where_given)}
        | {"variant": Variant.parse(row["variant"], f"{path}, line {line}")}
        for line, row in own
    ]


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as CSV under a header; nothing (None) becomes an empty cell.

    Raises:
        UserError: if a number is NaN or infinite.
    """
    refuse_no_numbers(path, [dict(row) for row in rows])
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def shown(value: float | None, style: str) -> str:
    """A number for people, by a format specification; a dash for nothing."""
    return "–" if value is None else format(value, style)


def stored_size(value: float) -> str:
    """Bytes for people, in decimal units: ``5 MB``."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.3g} B"


def markdown(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1, padded: bool = False
) -> str:
    """A Markdown table, without a final newline, of cells as they are to be shown.

    The first ``left`` columns hold text and start at their left. With ``padded``, cells fill their
    column, for those who read the text itself.
    """
    lines = [titles, *rows]
    widths = [max(map(len, column)) if padded else 0 for column in zip(*lines, strict=True)]

    def joined(cells: Sequence[str]) -> str:
        padded_cells = (
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return f"| {' | '.join(padded_cells)} |"

    dashes = ["-" * max(width - 1, 2) for width in widths]
    marks = joined([f":{d}" if index < left else f"{d}:" for index, d in enumerate(dashes)])
    first, *others = map(joined, lines)
    return "\n".join([first, marks if padded else marks.replace(" ", ""), *others])
