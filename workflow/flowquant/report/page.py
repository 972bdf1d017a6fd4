"""HTML that needs nothing but itself: pages, tables that sort and search, pictures in the text."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from mimetypes import guess_type
from pathlib import Path
from string import Template

Cell = str | tuple[str, float]
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; margin: 1rem; }
h1 { font-size: 1.3rem; margin: 0 0 .5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .7rem; text-align: right; white-space: nowrap; }
th.text, td.text { text-align: left; }
img { max-width: 100%; }
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
const { DataTable } = await import("data:text/javascript;base64,$script");
new DataTable("table", {
  paging: false,
  order: [],
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


def sortable_page(title: str, name: str, table: str) -> str:
    """A page with an `html_table` that sorts by its columns, searches, hides some and saves CSV.

    ``name`` is the CSV file's, without suffix.
    """
    from itables.utils import find_package_file

    bundle = Path(find_package_file("html/dt_bundle.js"))
    body = SORTABLE.substitute(
        title=escape(title),
        name=escape(name),
        table=table,
        css=bundle.with_suffix(".css").read_text(encoding="utf-8"),
        script=b64encode(bundle.read_bytes()).decode(),
    )
    return page(title, body)


def picture(path: Path, alternative: str) -> str:
    """An ``img`` with the file's content in it."""
    kind = guess_type(path.name)[0]
    content = b64encode(path.read_bytes()).decode()
    return f'<img alt="{escape(alternative)}" src="data:{kind};base64,{content}">'
