"""The look of the figures, and how they are saved."""

import re
from collections.abc import Iterable, Mapping
from math import log10
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from flowquant.report.caveats import MEANINGS
from flowquant.runtime.files import atomic

matplotlib.use("Agg")
matplotlib.rcParams.update(
    {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#505050",
        "axes.axisbelow": True,
        "axes.grid": True,
        "grid.color": "#b0b0b0",
        "grid.alpha": 0.3,
        "grid.linewidth": 0.6,
        "xtick.color": "#303030",
        "ytick.color": "#303030",
        "font.size": 10,
        "axes.titlesize": 9,
        "figure.titlesize": 9,
        "legend.frameon": False,
        "legend.fontsize": 8,
        # Fixed, so that the same data give the same file.
        "svg.hashsalt": "flowquant",
    }
)

# Inches. Panels stand on each other: so wide, a figure can be read in a column of print and on a
# telephone.
WIDTH = 5.2
# Characters of a legend that fit beside each other, less a handle each.
LEGEND_WIDTH = 72
HANDLE = 8
# Where a decade has ticks, on axes of fewer decades than so many.
ROUND = ((0.5, (1, 1.5, 2, 3, 4, 5, 6, 8)), (1.1, (1, 1.5, 2, 3, 5, 7)), (2.6, (1, 2, 5)))


def footnote(figure: Figure, caveats: Iterable[str]) -> None:
    """Say below a figure which of `caveats.MEANINGS` hold for what it shows."""
    width = round(22 * figure.get_figwidth())
    lines = [line for name in caveats for line in wrap(f"{name}: {MEANINGS[name]}", width)]
    figure.text(0.01, -0.01, "\n".join(lines), va="top", fontsize=6)


def legend_below(figure: Figure, entries: Mapping[str, object]) -> None:
    """A legend under all panels, where it hides nothing; handles by label."""
    if not entries:
        return
    handles, labels = list(entries.values()), list(entries)
    columns = max(1, min(len(labels), LEGEND_WIDTH // (max(map(len, labels)) + HANDLE)))
    rows = -(-len(labels) // columns)
    figure.set_figheight(figure.get_figheight() + 0.17 * rows + 0.1)
    # Of an errorbar its line alone.
    plain = [getattr(handle, "lines", [handle])[0] for handle in handles]
    figure.legend(
        plain,
        labels,
        loc="outside lower center",
        ncols=columns,
        columnspacing=1.4,
        handlelength=2.8,
    )


def logarithmic(axis: Axis) -> None:
    """Ticks of a logarithmic axis at round numbers, as many as there is room for, in plain digits.

    Called when all is drawn that sets the axis' limits.
    """
    least, most = sorted(axis.get_view_interval())
    decades = log10(most / least)
    subs = next((subs for longest, subs in ROUND if decades < longest), (1,))
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def name_end(axes: Axes, end: tuple[float, float], text: str, colour: str) -> None:
    """A short name at the right end of a line, in its colour."""
    offset: dict[str, Any] = {"xytext": (3, 0), "textcoords": "offset points", "va": "center"}
    axes.annotate(text, end, color=colour, fontsize=7, annotation_clip=False, **offset)


def save(figure: Figure, paths: tuple[Path, ...], dpi: int) -> None:
    """Save a figure once for each path, in the format of its suffix.

    An SVG says its proportions and no size: it fills the place that a page gives it.
    """
    for path in paths:
        with atomic(path) as temporary:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(temporary, dpi=dpi, bbox_inches="tight", metadata=metadata)
            if path.suffix == ".svg":
                text = temporary.read_text(encoding="utf-8")
                head, tag, rest = text.partition("<svg ")
                tag_end = rest.index(">")
                sized = re.sub(r' ?\b(?:width|height)="[0-9.]+pt"', "", rest[:tag_end])
                temporary.write_text(head + tag + sized + rest[tag_end:], encoding="utf-8")
