"""A run's sweep as one table, and whether the ranking of variants holds with fewer evaluations."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from flowquant.report.ranking import concordance, rank_correlation, swapped_gaps
from flowquant.runtime.files import atomic, read_json, write_table

SHARED = ("dataset", "variant", "seed", "n", "extractor")
MEASURED = ("solver", "steps", "tolerance", "evaluations", "fid", "seconds")
Row = dict[str, Any]


def read_rows(paths: tuple[Path, ...]) -> list[Row]:
    """All rows of what `sweep` wrote, each with its variant, number, seed and extractor."""
    return [
        {name: content[name] for name in SHARED} | row
        for content in map(read_json, paths)
        for row in content["rows"]
    ]


def by_setting(rows: list[Row]) -> list[list[Row]]:
    """The rows of one dataset and solver, those of each setting together, coarse to fine."""

    def fineness(row: Row) -> float:
        return row["steps"] if row["tolerance"] is None else -row["tolerance"]

    return [list(group) for _, group in groupby(sorted(rows, key=fineness), key=fineness)]


def heading(setting: list[Row]) -> str:
    """Evaluations of the velocity for an image; adaptive solvers spend what each variant needs."""
    counts = [round(row["evaluations"]) for row in setting]
    least, most = min(counts), max(counts)
    spent = f"{least}" if least == most else f"{least} to {most}"
    tolerance = setting[0]["tolerance"]
    return spent if tolerance is None else f"{spent} ({tolerance:g})"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _swaps(fids: list[float], finest: list[float]) -> str:
    gaps, pairs = swapped_gaps(fids, finest), len(fids) * (len(fids) - 1) // 2
    return f"{len(gaps)} of {pairs}" + (f", ≤ {max(gaps):.1%} apart" if gaps else "")


def solver_table(rows: list[Row]) -> list[str]:
    """Lines of Markdown for one dataset and solver: FID, then how its ranking holds."""
    settings = by_setting(rows)
    variants = [row["variant"] for row in settings[0]]
    fids = [[row["fid"] for row in setting] for setting in settings]
    finest = fids[-1]
    adaptive = settings[0][0]["tolerance"] is not None
    title = "evaluations (tolerance)" if adaptive else "evaluations"
    cells = [
        [title, *map(heading, settings)],
        *(
            [name, *(f"{column[index]:.2f}" for column in fids)]
            for index, name in enumerate(variants)
        ),
        ["Spearman's ρ", *(_shown(rank_correlation(column, finest)) for column in fids)],
        ["Kendall's τ", *(_shown(concordance(column, finest)) for column in fids)],
        ["pairs in another order", *(_swaps(column, finest) for column in fids)],
    ]
    lines = ["| " + " | ".join(line) + " |" for line in cells]
    return [lines[0], "|:--|" + "--:|" * len(settings), *lines[1:]]


def as_markdown(rows: list[Row]) -> str:
    """FID and rank stability of each dataset and solver, for people."""
    lines = [
        "# FID over evaluations of the velocity, for each solver",
        "",
        "The last three lines of a table compare each column's ranking of the variants with the "
        "last column's: rank correlations, and how many pairs of variants change places, with the "
        "largest difference between two such FIDs in the last column.",
    ]
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        own = [row for row in rows if row["dataset"] == dataset]
        first = own[0]
        lines += [
            "",
            f"## {dataset}",
            "",
            f"{first['n']} samples, seed {first['seed']}, features by {first['extractor']}.",
        ]
        for solver in dict.fromkeys(row["solver"] for row in own):
            lines += ["", f"### {solver}", ""]
            lines += solver_table([row for row in own if row["solver"] == solver])
    return "\n".join([*lines, ""])


def collect_sweep(sweeps: tuple[Path, ...], summary: Path, table: Path) -> None:
    """Gather a run's sweep.

    Args:
        sweeps: What `sweep` wrote for each dataset and variant.
        summary: CSV to write, a row for each dataset, variant, solver and setting.
        table: Markdown to write: FID, and whether the ranking of variants holds.

    Raises:
        UserError: if a result is unreadable.
    """
    rows = read_rows(sweeps)
    write_table(summary, (*SHARED[:2], *MEASURED, *SHARED[2:]), rows)
    with atomic(table) as temporary:
        temporary.write_text(as_markdown(rows), encoding="utf-8")
