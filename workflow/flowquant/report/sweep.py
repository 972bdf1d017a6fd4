"""A run's sweep in rows, and whether the ranking of variants holds with fewer evaluations."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from flowquant.report.caveats import FEW_IMAGES, MEANINGS, few_images
from flowquant.report.ranking import concordance, rank_correlation, swapped_gaps
from flowquant.report.tables import Row, markdown, shown

SHARED = ("dataset", "variant", "seed", "n", "n_real", "extractor", "features")
MEASURED = ("solver", "steps", "tolerance", "evaluations", "fid", "seconds")
COLUMNS = (*SHARED[:2], *MEASURED, *SHARED[2:], "caveats")


def sweep_rows(results: Iterable[Row]) -> list[Row]:
    """A row of `COLUMNS` for each variant, solver and setting in what `sweep` wrote."""
    rows = []
    for content in results:
        shared = {name: content[name] for name in SHARED}
        few = few_images(shared["n"], shared["n_real"], shared["features"])
        shared["caveats"] = FEW_IMAGES if few else ""
        rows += [shared | row for row in content["rows"]]
    return rows


def by_setting(rows: Iterable[Row]) -> list[list[Row]]:
    """The rows of one dataset and solver, those of each setting together, coarse to fine."""

    def fineness(row: Row) -> float:
        return float(row["steps"] if row["tolerance"] is None else -row["tolerance"])

    return [list(group) for _, group in groupby(sorted(rows, key=fineness), key=fineness)]


def heading(setting: Sequence[Row]) -> str:
    """Evaluations of the velocity for an image; adaptive solvers spend what each variant needs."""
    counts = [round(row["evaluations"]) for row in setting]
    least, most = min(counts), max(counts)
    spent = f"{least}" if least == most else f"{least} to {most}"
    tolerance = setting[0]["tolerance"]
    return spent if tolerance is None else f"{spent} ({tolerance:g})"


def _swaps(fids: list[float], finest: list[float]) -> str:
    gaps, pairs = swapped_gaps(fids, finest), len(fids) * (len(fids) - 1) // 2
    return f"{len(gaps)} of {pairs}" + (f", ≤ {max(gaps):.1%} apart" if gaps else "")


def solver_table(rows: Sequence[Row]) -> str:
    """A table of one dataset and solver: FID, then how its ranking of the variants holds."""
    settings = by_setting(rows)
    fids = [[row["fid"] for row in setting] for setting in settings]
    finest = fids[-1]
    adaptive = settings[0][0]["tolerance"] is not None
    title = "evaluations (tolerance)" if adaptive else "evaluations"
    return markdown(
        [title, *map(heading, settings)],
        [
            *(
                [str(row["variant"]), *(f"{column[index]:.2f}" for column in fids)]
                for index, row in enumerate(settings[0])
            ),
            ["Spearman's ρ", *(shown(rank_correlation(column, finest), ".3f") for column in fids)],
            ["Kendall's τ", *(shown(concordance(column, finest), ".3f") for column in fids)],
            ["pairs in another order", *(_swaps(column, finest) for column in fids)],
        ],
    )


def as_markdown(rows: Sequence[Row]) -> str:
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
            f"{first['n']} samples, seed {first['seed']}, {first['features']} features by "
            f"{first['extractor']}.",
            *(f"{MEANINGS[caveat]}." for caveat in first["caveats"].split()),
        ]
        for solver in dict.fromkeys(row["solver"] for row in own):
            table = solver_table([row for row in own if row["solver"] == solver])
            lines += ["", f"### {solver}", "", table]
    return "\n".join([*lines, ""])
