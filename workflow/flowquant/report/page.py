"""HTML that needs nothing but itself: pages, tables that sort and search, pictures in the text."""

from base64 import b64encode, encodebytes
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from mimetypes import guess_type
from pathlib import Path
from string import Template

from flowquant.report.tables import REMEDY
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import read_bytes

Cell = str | tuple[str, float]
# What browsers show, by suffix, and what is near the beginning of such files.
BEGINNINGS = {".png": b"\x89PNG\r\n", ".svg": b"<svg"}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; margin: 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 1.5rem 0 .5rem; }
.overview { max-width: 48rem; margin: auto; }
.wide { overflow-x: auto; }
figure { margin: 1rem 0; }
figure img { width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; white-space: nowrap; }
th.text, td.text { text-align: left; }
"""
PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
$body
</body>
</html>
""")
# itables' bundle of DataTables is a module; a page that is opened from a file can import it from
# nothing but its own text.
SORTABLE = Template("""<style>$css</style>
<h1>$title</h1>
$table
<script type="module">
const { ITable } = await import("data:text/javascript;base64,$script");
new ITable(document.querySelector("table"), {
  classes: ["display", "compact", "nowrap"],
  paging: false,
  order: [],
  columnDefs: [{ targets: $hidden, visible: false }],
  scrollX: true,
  layout: {
    topStart: { buttons: ["colvis", { extend: "csv", title: "$name" }] },
    topEnd: "search",
    bottomStart: "info",
  },
});
</script>""")


def page(title: str, body: str) -> str:
    """A whole page around ``body``, which is HTML."""
    return PAGE.substitute(title=escape(title), style=STYLE, body=body)


def html_table(columns: Mapping[str, bool], rows: Iterable[Sequence[Cell]]) -> str:
    """A table; of a column, whether it is text; of a cell, what is shown and what it sorts by."""
    kinds = [' class="text"' if text else "" for text in columns.values()]

    def line(tag: str, cells: Sequence[Cell]) -> str:
        found = []
        for kind, cell in zip(kinds, cells, strict=True):
            shown, order = (cell, "") if isinstance(cell, str) else (cell[0], cell[1])
            sorts = "" if order == "" else f' data-order="{order!r}"'
            found.append(f"<{tag}{kind}{sorts}>{escape(shown)}</{tag}>")
        return f"<tr>{''.join(found)}</tr>"

    head, body = line("th", list(columns)), "\n".join(line("td", row) for row in rows)
    return f"<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def sortable_page(title: str, name: str, table: str, hidden: Sequence[int] = ()) -> str:
    """A page with an `html_table` that sorts by its columns, searches, hides some and saves CSV.

    ``name`` is the CSV file's, without suffix; ``hidden`` are the places of columns that are shown
    only when a reader asks for them.
    """
    from itables.utils import find_package_file

    bundle = Path(find_package_file("html/dt_bundle.js"))
    body = SORTABLE.substitute(
        title=escape(title),
        name=escape(name),
        table=table,
        hidden=list(hidden),
        css=bundle.with_suffix(".css").read_text(encoding="utf-8"),
        script=b64encode(bundle.read_bytes()).decode(),
    )
    return page(title, body)


def picture(path: Path, alternative: str) -> str:
    """An ``img`` with a PNG or SVG in it, in short lines, for reStructuredText's sake.

    Raises:
        UserError: if the file is unreadable, or begins as no such picture does.
    """
    kind = guess_type(path.name)[0]
    try:
        content = read_bytes(path)
        if BEGINNINGS[path.suffix] not in content[:1000]:
            raise ValueError("no such picture")
    except (OSError, ValueError) as error:
        raise UserError(
            path, found=str(error), expected=f"a picture, {path.suffix}", remedy=REMEDY
        ) from error
    text = encodebytes(content).decode()
    return f'<img alt="{escape(alternative)}" src="data:{kind};base64,{text}">'
