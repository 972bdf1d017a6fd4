"""A run's sweep as one table, and whether the ranking of variants holds with fewer evaluations."""

from pathlib import Path

from flowquant.report.results import Sweep
from flowquant.report.sweep import COLUMNS, as_markdown, sweep_rows
from flowquant.report.tables import read_results, write_table
from flowquant.runtime.files import write_text


def collect_sweep(sweeps: tuple[Path, ...], summary: Path, table: Path) -> None:
    """Gather a run's sweep.

    Args:
        sweeps: What `sweep` wrote for each dataset and variant.
        summary: CSV to write, a row for each dataset, variant, solver and setting.
        table: Markdown to write: FID, and whether the ranking of variants holds.
    """
    rows = sweep_rows(read_results(sweeps, Sweep))
    write_table(summary, COLUMNS, rows)
    write_text(table, as_markdown(rows))
