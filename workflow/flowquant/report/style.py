"""The look of the figures, and how they are saved."""

from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from flowquant.report.caveats import MEANINGS
from flowquant.runtime.files import atomic

matplotlib.use("Agg")
matplotlib.rcParams.update(
    {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.25,
        "font.size": 10,
        "axes.titlesize": 9,
        "figure.titlesize": 9,
        "legend.frameon": False,
        # Fixed, so that the same data give the same file.
        "svg.hashsalt": "flowquant",
    }
)

# Okabe and Ito's colours, told apart by readers of every colour vision; markers for print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":")
# What measurements are held against: a bound, the real images.
REFERENCE_LINE: dict[str, Any] = {"color": "grey", "linestyle": ":"}


def series_style(index: int) -> dict[str, Any]:
    """Colour, marker and line of the index-th series; colours recur with another line."""
    around, place = divmod(index, len(COLOURS))
    return {
        "color": COLOURS[place],
        "marker": MARKERS[place],
        "linestyle": LINES[around % len(LINES)],
    }


def footnote(figure: Figure, caveats: Iterable[str]) -> None:
    """Say below a figure which of `caveats.MEANINGS` hold for what it shows."""
    width = round(22 * figure.get_figwidth())
    lines = [line for name in caveats for line in wrap(f"{name}: {MEANINGS[name]}", width)]
    figure.text(0.01, -0.01, "\n".join(lines), va="top", fontsize=6)


def save(figure: Figure, paths: tuple[Path, ...], dpi: int) -> None:
    """Save a figure once for each path, in the format of its suffix."""
    for path in paths:
        with atomic(path) as temporary:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(temporary, dpi=dpi, bbox_inches="tight", metadata=metadata)
