"""Velocity error and trajectory divergence over time, a line for each variant."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowquant.report.look import place, variant_style
from flowquant.report.scores import read_scores
from flowquant.report.style import WIDTH, legend_below, logarithmic, name_end, save
from flowquant.report.tables import REMEDY, Row, write_table
from flowquant.runtime.errors import UserError

PANELS = {
    "velocity_error": "relative velocity error",
    "divergence": "divergence of trajectories (RMS)",
}
MOST_LINES = 14
FEW_BITS = 2.5
COLUMNS = ("dataset", "variant", "seed", "trajectories", "t", *PANELS)
# Markers along a line.
MARKS = 8


def plot_fidelity(
    scores: tuple[Path, ...], outputs: tuple[Path, ...], data: Path, dpi: int
) -> None:
    """Plot how the error grows along the flow.

    Beyond 14 variants those of less than 2.5 bits are drawn, or the first 14 of them: a figure
    holds no more lines; the data hold all.

    Args:
        scores: What `score` wrote for the quantized variants of one dataset, for one seed.
        outputs: Figures to write, format by suffix.
        data: CSV to write: the errors of all variants.
        dpi: Resolution of PNG files.

    Raises:
        UserError: if a file is unreadable, or none has a section `fidelity`.
    """
    found = sorted(
        read_scores(scores).fidelities,
        key=lambda result: (*place(result["variant"].method), result["variant"]),
    )
    if not found:
        raise UserError(
            scores[0] if scores else "--scores",
            found="no `fidelity`",
            expected="scores of a quantized variant, compared with full precision",
            remedy=REMEDY,
        )
    write_table(data, COLUMNS, [row for result in found for row in _rows(result)])
    if len(found) > MOST_LINES:
        low = [result for result in found if result["variant"].bits < FEW_BITS]
        found = (low or found)[:MOST_LINES]
    figure = Figure(figsize=(WIDTH, 5.4), layout="constrained")
    panels = figure.subplots(len(PANELS), sharex=True)
    for axes, (key, label) in zip(panels, PANELS.items(), strict=True):
        _draw(axes, found, key)
        axes.set_ylabel(label)
    panels[-1].set_xlabel("t (0 noise, 1 image)")
    handles, labels = panels[0].get_legend_handles_labels()
    legend_below(figure, dict(zip(labels, handles, strict=True)))
    figure.suptitle(f"{found[0]['dataset']}: {found[0]['trajectories']} trajectories, same noise")
    save(figure, outputs, dpi)


def _rows(result: Row) -> list[Row]:
    paths = result["paths"]
    shared = {name: result[name] for name in ("dataset", "variant", "seed", "trajectories")}
    return [
        shared | {name: paths[name][step] for name in ("t", *PANELS)}
        for step in range(len(paths["t"]))
    ]


def _draw(axes: Axes, found: list[Row], key: str) -> None:
    for number, result in enumerate(found):
        paths = result["paths"]
        # Divergence at t = 0 is 0, the noise being the same; a logarithm has no place for it.
        points = [(t, v) for t, v in zip(paths["t"], paths[key], strict=True) if v > 0]
        every = max(1, len(points) // MARKS)
        # Lines that lie on each other have their markers beside each other.
        marks = {"markevery": (number * every // len(found), every), "linewidth": 1.3}
        style = variant_style(result["variant"])
        axes.plot(
            [t for t, _ in points],
            [value for _, value in points],
            label=result["variant"].label,
            **style | marks,
        )
        if points:
            name_end(axes, points[-1], result["variant"].width, style["color"])
    axes.set_yscale("log")
    logarithmic(axes.yaxis)
