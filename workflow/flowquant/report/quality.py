"""A metric over what a model's weights take: the points that a figure shows, and the figure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from flowquant.config.variants import Variant
from flowquant.report.look import FULL, REFERENCE_LINE, method_style, place
from flowquant.report.style import logarithmic
from flowquant.report.tables import Row, stored_size

Metric = Literal["fid", "is", "accuracy"]
Size = Literal["bytes", "effective_bits"]
# What a point comes from.
MEASURED, PUBLISHED, REAL = "measured", "published", "real images"
COLUMNS = (
    "dataset",
    "extractor",
    "source",
    "variant",
    "bytes",
    "effective_bits",
    "value",
    "low",
    "high",
)
# Ticks that readers of bits expect.
BITS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)
SIZES: dict[Size, str] = {"bytes": "stored size", "effective_bits": "effective bits a weight"}


@dataclass(frozen=True)
class MetricLook:
    """How a metric is drawn, and what published results call it."""

    label: str
    published_key: str
    scale: Literal["linear", "log"] = "linear"


LOOKS: dict[Metric, MetricLook] = {
    "fid": MetricLook("FID (lower is better)", "fid", "log"),
    "is": MetricLook("Inception Score (higher is better)", "is_mean"),
    "accuracy": MetricLook("classifier accuracy (higher is better)", "accuracy"),
}


def intervals(metric: Metric) -> tuple[str, str]:
    """The columns of a table that hold a metric's interval, where it was computed."""
    return f"{metric}_low", f"{metric}_high"


def points(
    rows: Sequence[Row], dataset: str, metric: Metric, published: Mapping[Variant, float]
) -> list[Row]:
    """A row of `COLUMNS` for each point: one extractor's rows of a dataset in a run's table.

    A published value lies where the variant of its name was measured, or is left out: nobody said
    how many bytes it took. Real images' accuracy is that of the classifier on the test images.
    """
    ends = intervals(metric)
    measured = {row["variant"]: row for row in rows if row[metric] is not None}
    found: list[Row] = []

    def add(source: str, variant: Variant, value: float, row: Row, interval: Row) -> None:
        shared = {"dataset": dataset, "extractor": rows[0]["extractor"], "source": source}
        size = {name: row[name] for name in SIZES}
        found.append(shared | {"variant": variant, "value": value} | size | interval)

    nothing = {"low": None, "high": None}
    for variant, row in measured.items():
        low, high = (row.get(name) for name in ends)
        interval = nothing if None in (low, high) else {"low": low, "high": high}
        add(REAL if variant.is_real else MEASURED, variant, row[metric], row, interval)
    if metric == "accuracy" and (real := rows[0]["real_accuracy"]) is not None:
        add(REAL, Variant("real"), real, dict.fromkeys(SIZES), nothing)
    for variant in sorted(set(published) & set(measured)):
        add(PUBLISHED, variant, published[variant], measured[variant], nothing)
    return found


def draw(axes: Axes, found: Sequence[Row], metric: Metric, size: Size) -> None:
    """Draw points: a line a method, full precision and real images as lines across.

    A method with one width is a point, an interval where there is one a bar, what was published
    pale.
    """
    looks: dict[str, dict[str, Any]] = {MEASURED: {}, PUBLISHED: {"alpha": 0.35}}
    for source, look in looks.items():
        own = [point for point in found if point["source"] == source and point[size] is not None]
        note = "" if source == MEASURED else f", {source}"
        methods = {point["variant"].method for point in own if point["variant"].is_quantized}
        for method in sorted(methods, key=place):
            line = sorted(
                (point for point in own if point["variant"].method == method),
                key=lambda point: point[size],
            )
            style = method_style(method) | look | ({} if len(line) > 1 else {"linestyle": ""})
            axes.errorbar(
                [point[size] for point in line],
                [point["value"] for point in line],
                yerr=_bars(line),
                label=f"{method}{note}",
                capsize=4,
                capthick=1,
                **{"linewidth": 1.3, "elinewidth": 1, **style},
            )
        for point in (point for point in own if point["variant"].is_full):
            axes.axhline(point["value"], label=f"full precision{note}", **FULL | look)
            if point["low"] is not None:
                axes.axhspan(point["low"], point["high"], color=FULL["color"], alpha=0.08, lw=0)
    for point in (point for point in found if point["source"] == REAL):
        axes.axhline(point["value"], label=REAL, **REFERENCE_LINE | {"linewidth": 1.6})
    _scales(axes, metric, size)


def _bars(line: Sequence[Row]) -> list[list[float]] | None:
    """How far intervals reach below and above, no number where there is none; None without any."""

    def reach(point: Row, end: str) -> float:
        if point["low"] is None or not point["low"] < point["high"]:
            return math.nan
        return float(abs(point[end] - point["value"]))

    if all(point["low"] is None for point in line):
        return None
    return [[reach(point, end) for point in line] for end in ("low", "high")]


def _scales(axes: Axes, metric: Metric, size: Size) -> None:
    look = LOOKS[metric]
    axes.set_xlabel(SIZES[size])
    axes.set_ylabel(look.label)
    axes.set_xscale("log")
    logarithmic(axes.xaxis)
    if size == "bytes":
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: stored_size(value)))
    else:
        least, most = axes.get_xlim()
        axes.set_xticks([bits for bits in BITS if least <= bits <= most])
    if look.scale == "log":
        axes.set_yscale("log")
        logarithmic(axes.yaxis)
    if metric == "accuracy":
        axes.set_ylim(0, 1.02)
