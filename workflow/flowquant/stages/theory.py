"""What theory says against what was measured: decay of W₂ per bit, ρ(b), FID against W₂."""

from pathlib import Path

from flowquant.report.results import Distances
from flowquant.report.style import save
from flowquant.report.tables import read_results, read_table
from flowquant.report.theory import as_figure, as_markdown, summarise
from flowquant.runtime.files import write_json, write_text


def theory(
    distances: tuple[Path, ...],
    summary: Path,
    dataset: str,
    data: Path,
    table: Path,
    outputs: tuple[Path, ...],
    dpi: int,
) -> None:
    """Tabulate and plot errors over bits, and FID over W₂.

    Args:
        distances: What `distances` wrote for each quantized variant of the dataset.
        summary: The table that `collect` wrote.
        dataset: Which dataset.
        data: JSON to write: all that is shown.
        table: Markdown to write.
        outputs: Figures to write, format by suffix.
        dpi: Resolution of PNG files.
    """
    rows = read_table(summary, dataset, text=("extractor",), numbers=("fid",))
    # The first extractor is that of figures.
    fids = {row["variant"]: row["fid"] for row in rows if row["extractor"] == rows[0]["extractor"]}
    found = summarise(read_results(distances, Distances), fids)
    write_json(data, found)
    write_text(table, as_markdown(found))
    save(as_figure(found), outputs, dpi)
