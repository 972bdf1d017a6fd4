"""FID of one dataset over evaluations of the velocity: a panel a solver, a line a variant."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowquant.config.variants import Variant
from flowquant.report.look import variant_style
from flowquant.report.style import WIDTH, footnote, legend_below, logarithmic, save
from flowquant.report.tables import Row, read_table


def draw(axes: Axes, rows: Sequence[Row], variants: Sequence[Variant]) -> None:
    """Draw one solver's FID, a line for each variant."""
    for variant in variants:
        # Two tolerances may cost the same: the coarser one first.
        line = sorted(
            (row for row in rows if row["variant"] == variant),
            key=lambda row: (row["evaluations"], -(row["tolerance"] or 0)),
        )
        axes.plot(
            [row["evaluations"] for row in line],
            [row["fid"] for row in line],
            label=variant.label,
            **{"linewidth": 1.2, **variant_style(variant)},
        )


def plot_sweep(summary: Path, dataset: str, outputs: tuple[Path, ...], dpi: int) -> None:
    """Plot the sweep of one dataset.

    Args:
        summary: The table that `collect_sweep` wrote.
        dataset: Whose rows.
        outputs: Figures to write, format by suffix.
        dpi: Resolution of PNG files.
    """
    rows = read_table(
        summary,
        dataset,
        text=("solver", "n", "seed", "extractor", "caveats"),
        numbers=("evaluations", "fid"),
        optional=("tolerance",),
    )
    solvers = list(dict.fromkeys(row["solver"] for row in rows))
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    columns = min(2, len(solvers))
    lines = -(-len(solvers) // columns)
    figure = Figure(figsize=(WIDTH if columns == 1 else 7, 0.5 + 2.8 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, solver in zip(panels, solvers, strict=False):
        draw(axes, [row for row in rows if row["solver"] == solver], variants)
        axes.set_title(solver, fontsize=10)
    for axes in panels[len(solvers) :]:
        axes.set_axis_off()
    first = panels[0]
    first.set_xscale("log")
    first.set_yscale("log")
    logarithmic(first.xaxis)
    logarithmic(first.yaxis)
    for axes in panels[-columns:]:
        axes.set_xlabel("evaluations of the velocity for an image", fontsize=9)
    figure.supylabel("FID (lower is better)", fontsize=10)
    handles, labels = first.get_legend_handles_labels()
    legend_below(figure, dict(zip(labels, handles, strict=True)))
    n, seed, extractor = (rows[0][name] for name in ("n", "seed", "extractor"))
    figure.suptitle(
        f"{dataset}: {n} samples, seed {seed}, features by {extractor}; same noise for all"
    )
    footnote(figure, rows[0]["caveats"].split())
    save(figure, outputs, dpi)
