"""FID, Inception Score or accuracy of one dataset over stored bytes and over effective bits."""

from pathlib import Path

from matplotlib.figure import Figure

from flowquant.config.variants import Variant
from flowquant.report.caveats import concerning
from flowquant.report.quality import (
    COLUMNS,
    LOOKS,
    SIZES,
    Metric,
    Size,
    draw,
    intervals,
    points,
)
from flowquant.report.style import WIDTH, footnote, legend_below, save
from flowquant.report.tables import Row, read_table, write_table
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import read_json

PUBLISHED_EXTRACTOR = "inception-v3-compat"
PANEL_HEIGHT = 3.3

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


def plot_metrics(
    summary: Path,
    dataset: str,
    metric: Metric,
    published: Path,
    over_bytes: tuple[Path, ...],
    over_bits: tuple[Path, ...],
    data: Path,
    dpi: int,
) -> None:
    """Plot one metric of one dataset, a panel for each extractor of features.

    Args:
        summary: The table that `collect` wrote.
        dataset: Whose rows.
        metric: What to draw.
        published: The published results file with the metric, drawn if its extractor was used.
        over_bytes: Figures to write, format by suffix: the metric over the size of a model's file.
        over_bits: The same over effective bits a weight.
        data: CSV to write: all points of both.
        dpi: Resolution of PNG files.

    Raises:
        UserError: if the table lacks the dataset.
    """
    rows = read_table(
        summary,
        dataset,
        text=("n", "seeds", "extractor", "caveats"),
        optional=("bytes", "effective_bits", "real_accuracy", metric),
        where_given=intervals(metric),
    )
    by_extractor: dict[str, list[Row]] = {}
    for row in rows:
        by_extractor.setdefault(row["extractor"], []).append(row)
    if metric == "accuracy":  # a classifier's own, whatever extracts features
        by_extractor = dict([next(iter(by_extractor.items()))])
    # Published accuracies come from other classifiers at other image sizes; they are shown with
    # the published FID's extractor alone, where a reader expects the paper's own figures.
    known: dict[Variant, float] = {}
    if PUBLISHED_EXTRACTOR in {row["extractor"] for row in rows}:
        known = published_values(published, dataset, LOOKS[metric].published_key)
    panels = {
        extractor: points(
            own,
            dataset,
            metric,
            known if metric == "accuracy" or extractor == PUBLISHED_EXTRACTOR else {},
        )
        for extractor, own in by_extractor.items()
    }
    write_table(data, COLUMNS, [point for found in panels.values() for point in found])
    n, seeds = rows[0]["n"], len(rows[0]["seeds"].split())
    title = f"{dataset}: {n} samples × {seeds} seed{'s' if seeds > 1 else ''}"
    for size, outputs in zip(SIZES, (over_bytes, over_bits), strict=True):
        figure = _figure(panels, metric, size, title)
        footnote(figure, concerning(metric, rows))
        save(figure, outputs, dpi)


def _figure(panels: dict[str, list[Row]], metric: Metric, size: Size, title: str) -> Figure:
    figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * len(panels)), layout="constrained")
    subplots = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    entries: dict[str, object] = {}
    for axes, (extractor, found) in zip(subplots, panels.items(), strict=True):
        draw(axes, found, metric, size)
        axes.set_title(title if metric == "accuracy" else f"{title}, features by {extractor}")
        handles, labels = axes.get_legend_handles_labels()
        entries |= dict(zip(labels, handles, strict=True))
    legend_below(figure, entries)
    return figure
