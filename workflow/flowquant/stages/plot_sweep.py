"""FID of one dataset over evaluations of the velocity: a panel a solver, a line a variant."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

from flowquant.config.variants import Variant
from flowquant.report.style import COLOURS, MARKERS, footnote, save
from flowquant.report.tables import Row, read_table

Style = dict[str, Any]


def variant_styles(variants: Sequence[Variant]) -> dict[Variant, Style]:
    """Full precision black, a colour for each method, a marker for each of its widths.

    Methods beyond six take the colours again, dashed.
    """
    styles: dict[Variant, Style] = {}
    methods: dict[str, list[Variant]] = {}
    for variant in variants:
        if variant.is_full:
            styles[variant] = {"color": "black", "marker": "", "linewidth": 2.2}
        else:
            methods.setdefault(variant.method, []).append(variant)
    colours = COLOURS[:-1]
    for index, widths in enumerate(methods.values()):
        for width, variant in enumerate(widths):
            styles[variant] = {
                "color": colours[index % len(colours)],
                "marker": MARKERS[width % len(MARKERS)],
                "linestyle": "-" if index < len(colours) else "--",
            }
    return styles


def draw(axes: Axes, rows: Sequence[Row], styles: Mapping[Variant, Style]) -> None:
    """Draw one solver's FID, a line for each variant."""
    for variant, style in styles.items():
        # Two tolerances may cost the same: the coarser one first.
        line = sorted(
            (row for row in rows if row["variant"] == variant),
            key=lambda row: (row["evaluations"], -(row["tolerance"] or 0)),
        )
        axes.plot(
            [row["evaluations"] for row in line],
            [row["fid"] for row in line],
            label=variant.label,
            **{"linewidth": 1.2, "markersize": 4.5, **style},
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
    styles = variant_styles(list(dict.fromkeys(row["variant"] for row in rows)))
    columns = min(2, len(solvers))
    lines = -(-len(solvers) // columns)
    figure = Figure(figsize=(1.6 + 3.6 * columns, 0.5 + 3 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, solver in zip(panels, solvers, strict=False):
        draw(axes, [row for row in rows if row["solver"] == solver], styles)
        axes.set_title(solver, fontsize=10)
    for axes in panels[len(solvers) :]:
        axes.set_axis_off()
    first = panels[0]
    first.set_xscale("log")
    first.set_yscale("log")
    for axis in (first.xaxis, first.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(ScalarFormatter())
    figure.supxlabel("evaluations of the velocity for an image", fontsize=10)
    figure.supylabel("FID (lower is better)", fontsize=10)
    figure.legend(
        *first.get_legend_handles_labels(),
        loc="outside right center",
        fontsize=8,
        ncols=1 + len(styles) // 24,
    )
    n, seed, extractor = (rows[0][name] for name in ("n", "seed", "extractor"))
    figure.suptitle(
        f"{dataset}: {n} samples, seed {seed}, features by {extractor}; same noise for all"
    )
    footnote(figure, rows[0]["caveats"].split())
    save(figure, outputs, dpi)
