"""FID, Inception Score and accuracy of one dataset over bit widths, a line for each method."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowquant.config.variants import Variant
from flowquant.report.caveats import concerning
from flowquant.report.style import REFERENCE_LINE, footnote, save, series_style
from flowquant.report.tables import Row, read_table
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import read_json

PUBLISHED_EXTRACTOR = "inception-v3-compat"
Metric = Literal["fid", "is", "accuracy"]
# Longer legends would hide lines, and go beside them.
MOST_INSIDE = 5


@dataclass(frozen=True)
class MetricStyle:
    """How a metric is drawn, which column has its deviation, what published results call it."""

    label: str
    published_key: str
    scale: Literal["linear", "log"]
    deviation: str = ""


STYLES: dict[Metric, MetricStyle] = {
    "fid": MetricStyle("FID (lower is better)", "fid", "log", "fid_std"),
    "is": MetricStyle("Inception Score (higher is better)", "is_mean", "linear"),
    "accuracy": MetricStyle(
        "classifier accuracy (higher is better)", "accuracy", "linear", "accuracy_std"
    ),
}


# Dataset → ``full`` → metric → value, and dataset → method → method_Nbit → metric → value.
Published = dict[str, dict[str, dict[str, float | dict[str, float]]]]


def published_values(path: Path, dataset: str, key: str) -> dict[Variant, float]:
    """The values of a published results file by variant; empty if it lacks the dataset.

    Raises:
        UserError: if the file is unreadable, or a variant lacks the metric.
    """
    content = read_json(path, Published)
    named = {name.lower(): found for name, found in content.items()}.get(dataset.lower(), {})
    values = {}
    for method, found in named.items():
        for name, result in ({"full": found} if method == "full" else found).items():
            width = name.removeprefix(f"{method}_")
            variant = Variant.parse(name if method == "full" else f"{method}/{width}", path)
            value = result.get(key) if isinstance(result, dict) else None
            if not isinstance(value, float):
                raise UserError(
                    path,
                    found=f"no `{key}` of {variant} for {dataset}",
                    expected="one for each of its variants",
                    remedy="Take the file from a fresh copy of the project.",
                )
            values[variant] = value
    return values


def _with_full(method: str, variants: Iterable[Variant]) -> list[Variant]:
    return sorted(variant for variant in variants if variant.method in ("full", method))


def draw(
    axes: Axes,
    rows: Sequence[Row],
    metric: Metric,
    published: Mapping[Variant, float],
) -> None:
    """Draw one column of a dataset's rows of the table, and published values faintly."""
    style = STYLES[metric]
    measured = {row["variant"]: row for row in rows if row[metric] is not None}
    widths = sorted({v.nominal_bits for v in measured if v.nominal_bits}, reverse=True)
    position = {bits: index for index, bits in enumerate(widths)}
    methods = sorted({variant.method for variant in measured if variant.is_quantized})
    for index, method in enumerate(methods):
        line = _with_full(method, measured)
        axes.errorbar(
            [position[variant.nominal_bits] for variant in line],
            [measured[variant][metric] for variant in line],
            yerr=[measured[variant].get(style.deviation) or 0 for variant in line],
            label=method,
            capsize=3,
            **series_style(index),
        )
        if any(variant.method == method for variant in published):
            line = [v for v in _with_full(method, published) if v.nominal_bits in position]
            axes.plot(
                [position[variant.nominal_bits] for variant in line],
                [published[variant] for variant in line],
                label=f"{method}, published",
                **series_style(index) | {"alpha": 0.3, "linestyle": "--"},
            )
    real = measured.get(Variant("real"), {}).get(metric)
    floor = rows[0]["real_accuracy"] if metric == "accuracy" else real
    if floor:
        axes.axhline(floor, linewidth=1, label="real images", **REFERENCE_LINE)
    axes.set_xticks(
        range(len(widths)), ["FP32" if bits == 32 else f"INT{bits:g}" for bits in widths]
    )
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
    dpi: int,
) -> None:
    """Plot one metric of one dataset.

    Args:
        summary: The table that `collect` wrote.
        dataset: Whose rows.
        metric: What to draw.
        published: The published results file with the metric, drawn if its extractor was used.
        outputs: Figures to write, format by suffix.
        dpi: Resolution of PNG files.

    Raises:
        UserError: if the table lacks the dataset.
    """
    deviations = filter(None, [STYLES[metric].deviation])
    rows = read_table(
        summary,
        dataset,
        text=("n", "seeds", "extractor", "caveats"),
        optional=("real_accuracy", metric, *deviations),
    )
    # Published accuracies come from other classifiers at other image sizes; they are shown with
    # the published FID's extractor alone, where a reader expects the paper's own figures.
    values = {}
    if any(row["extractor"] == PUBLISHED_EXTRACTOR for row in rows):
        values = published_values(published, dataset, STYLES[metric].published_key)
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
        f"features by {rows[0]['extractor']}"
    )
    footnote(figure, concerning(metric, rows))
    save(figure, outputs, dpi)
