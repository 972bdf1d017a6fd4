"""FID, Inception Score and accuracy of one dataset over bit widths, a line for each method."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowquant.report.style import save, series_style
from flowquant.runtime.files import read_json

PUBLISHED_EXTRACTOR = "inception-v3-compat"
Metric = Literal["fid", "is", "accuracy"]
# Longer legends would hide lines, and go beside them.
MOST_INSIDE = 5


@dataclass(frozen=True)
class MetricStyle:
    """How a metric is drawn, and what the published results call it."""

    label: str
    published_key: str
    scale: Literal["linear", "log"]


STYLES: dict[Metric, MetricStyle] = {
    "fid": MetricStyle("FID (lower is better)", "fid", "log"),
    "is": MetricStyle("Inception Score (higher is better)", "is_mean", "linear"),
    "accuracy": MetricStyle("classifier accuracy (higher is better)", "accuracy", "linear"),
}


def tick(bits: float) -> str:
    """``FP32`` for full precision, else ``INT<bits>``."""
    return "FP32" if bits == 32 else f"INT{bits:g}"


def read_rows(summary: Path, dataset: str) -> list[dict[str, str]]:
    """The rows of a dataset in the table that `collect` wrote."""
    with summary.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["dataset"] == dataset]


def published_values(
    content: dict[str, Any], dataset: str, key: str
) -> dict[str, dict[float, float]]:
    """Method → bits → value, from a published result file; empty if it lacks the dataset."""
    named = {name.lower(): found for name, found in content.items()}.get(dataset.lower(), {})
    full = named.get("full", {}).get(key)
    values = {}
    for method, widths in named.items():
        if method != "full":
            by_bits = {
                float(name.rpartition("_")[2].removesuffix("bit")): found[key]
                for name, found in widths.items()
            }
            values[method] = by_bits if full is None else {32: full, **by_bits}
    return values


def draw(
    axes: Axes,
    rows: list[dict[str, str]],
    metric: Metric,
    published: dict[str, dict[float, float]],
) -> None:
    """Draw one metric of one dataset.

    Args:
        axes: Where to draw.
        rows: The dataset's rows of the table.
        metric: Column to draw.
        published: Method → bits → published value, drawn faintly.
    """
    style = STYLES[metric]
    full = next((row for row in rows if row["variant"] == "full"), None)
    methods = sorted({row["method"] for row in rows if "/" in row["variant"]})
    widths = sorted({float(row["bits"]) for row in rows if row["bits"]}, reverse=True)
    position = {bits: index for index, bits in enumerate(widths)}
    for index, method in enumerate(methods):
        line = [full] if full else []
        line += sorted(
            (r for r in rows if r["method"] == method and r["bits"]),
            key=lambda r: -float(r["bits"]),
        )
        x = [position[float(row["bits"])] for row in line]
        y = [float(row[metric]) for row in line]
        spread = [float(row.get(f"{metric}_std") or 0) for row in line]
        axes.errorbar(x, y, yerr=spread, label=method, capsize=3, **series_style(index))
        if method in published:
            points = {b: v for b, v in published[method].items() if b in position}
            axes.plot(
                [position[bits] for bits in sorted(points, reverse=True)],
                [points[bits] for bits in sorted(points, reverse=True)],
                label=f"{method}, published",
                **series_style(index) | {"alpha": 0.3, "linestyle": "--"},
            )
    real = next((row for row in rows if row["variant"] == "real"), None)
    floor = (full or {}).get("real_accuracy") if metric == "accuracy" else (real or {}).get(metric)
    if floor:
        axes.axhline(float(floor), color="grey", linewidth=1, linestyle=":", label="real images")
    axes.set_xticks(range(len(widths)), [tick(bits) for bits in widths])
    axes.set_xlabel("weights")
    axes.set_ylabel(style.label)
    axes.set_yscale(style.scale)
    if metric == "accuracy":
        axes.set_ylim(0, 1.02)


def plot_metrics(
    summary: Path,
    dataset: str,
    metric: Metric,
    published: Path,
    outputs: tuple[Path, ...],
    dpi: int = 150,
) -> None:
    """Plot one metric of one dataset.

    Args:
        summary: The table that `collect` wrote.
        dataset: Whose rows.
        metric: What to draw.
        published: The published results file that has the metric; drawn where the dataset is in
            it and its extractor was used here.
        outputs: Figures to write, format by suffix.
        dpi: Resolution of PNG files.

    Raises:
        UserError: if the published file is unreadable.
    """
    rows = read_rows(summary, dataset)
    # Published accuracies come from other classifiers at other image sizes; they are shown with
    # the published FID's extractor alone, where a reader expects the paper's own figures.
    comparable = any(row["extractor"] == PUBLISHED_EXTRACTOR for row in rows)
    values = (
        published_values(read_json(published), dataset, STYLES[metric].published_key)
        if comparable
        else {}
    )
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    draw(axes, rows, metric, values)
    if len(axes.get_legend_handles_labels()[0]) <= MOST_INSIDE:
        axes.legend()
    else:
        figure.set_figwidth(7)
        figure.legend(loc="outside right center", fontsize=8, handlelength=3)
    n, seeds = rows[0]["n"], len(rows[0]["seeds"].split())
    axes.set_title(
        f"{dataset}: {n} samples × {seeds} seed{'s' if seeds > 1 else ''}, "
        f"features by {rows[0]['extractor']}",
        fontsize=9,
    )
    save(figure, outputs, dpi)
