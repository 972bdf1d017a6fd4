"""The page that a report opens on: headline, picture and table of each dataset, provenance."""

from html import escape
from pathlib import Path

from flowquant.report.overview import (
    INTERVALS,
    NUMBERS,
    compared,
    headline,
    headline_table,
    protocol,
    provenance,
    versions,
)
from flowquant.report.page import BEGINNINGS, page, picture
from flowquant.report.tables import Row, read_table
from flowquant.report.timeline import device_kinds
from flowquant.runtime.files import write_text


def report_overview(
    summary: Path,
    run: str,
    datasets: tuple[str, ...],
    output: Path,
    figures: tuple[Path, ...] = (),
    samples: tuple[Path, ...] = (),
    devices: Path | None = None,
) -> None:
    """Write the page.

    Args:
        summary: The table that `collect` wrote.
        run: Name of the run.
        datasets: The run's datasets, in their order.
        output: HTML to write; it needs no other file.
        figures: For each dataset the figure of its FID; PDF is left out, which pages do not show.
        samples: For each dataset the figure of its samples.
        devices: What the run's jobs noted of the devices they computed on, if it is there.

    Raises:
        UserError: if the table is unreadable or lacks a dataset.
    """
    sections, first = [], None
    for place, dataset in enumerate(datasets):
        rows = _headline_rows(summary, dataset)
        first = first or rows[0]
        pictures = [
            f"<figure>{picture(files[place], f'{dataset}: {what}')}</figure>"
            for files, what in ((figures, "FID over stored size"), (samples, "samples"))
            if files and files[place].suffix in BEGINNINGS
        ]
        sections += [
            f"<h2>{escape(dataset)}</h2>",
            f"<p>{headline(rows)}</p>",
            f"<p>Compared: full precision; {compared(rows)}. {protocol(rows[0])}</p>",
            *pictures,
            headline_table(rows),
        ]
    facts = {name: [number] for name, number in versions().items()}
    if devices is not None and devices.exists():
        facts["computed on"] = device_kinds(devices)
    body = [
        f'<div class="overview"><h1>Run “{escape(run)}”</h1>',
        "<p>Flow-matching models, their weights quantized, and what they draw scored.</p>",
        *sections,
        "<h2>Provenance</h2>",
        provenance(facts),
        "</div>",
    ]
    write_text(output, page(f"flowquant: {run}", "\n".join(body)))


def _headline_rows(summary: Path, dataset: str) -> list[Row]:
    """A dataset's rows by the first extractor of features, whose scores are the headline's."""
    rows = read_table(
        summary,
        dataset,
        text=("n", "seeds", "extractor", "caveats"),
        optional=NUMBERS,
        where_given=INTERVALS,
    )
    return [row for row in rows if row["extractor"] == rows[0]["extractor"]]
