"""Velocity error and trajectory divergence over time, a line for each variant."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from flowquant.report.style import save, series_style
from flowquant.runtime.files import read_json

PANELS = {
    "velocity_error": "relative velocity error",
    "divergence": "divergence of trajectories (RMS)",
}
MOST_LINES = 14


def plot_fidelity(results: tuple[Path, ...], outputs: tuple[Path, ...], dpi: int = 150) -> None:
    """Plot how the error grows along the flow.

    Beyond 14 variants those of 2 bits or less are drawn, or the first 14 of them: a figure holds
    no more lines; the results' files hold all.

    Args:
        results: What `fidelity` wrote for the variants of one dataset, for one seed.
        outputs: Figures to write, format by suffix.
        dpi: Resolution of PNG files.

    Raises:
        UserError: if a result is unreadable.
    """
    found = [read_json(path) for path in results]
    if len(found) > MOST_LINES:
        low = [r for r in found if float(r["variant"].split("/")[1].removesuffix("bit")) < 2.5]
        found = (low or found)[:MOST_LINES]
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, 2), PANELS.items(), strict=True):
        for index, result in enumerate(found):
            paths = result["paths"]
            # Divergence at t = 0 is 0, the noise being the same; a logarithm has no place for it.
            points = [
                (t, value) for t, value in zip(paths["t"], paths[key], strict=True) if value > 0
            ]
            style = series_style(index) | {"markersize": 3, "markevery": 10}
            axes.plot(
                [t for t, _ in points],
                [value for _, value in points],
                label=result["variant"].replace("/", " "),
                **style,
            )
        axes.set_xlabel("t (0 noise, 1 image)")
        axes.set_ylabel(label)
        axes.set_yscale("log")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=7)
    figure.suptitle(
        f"{found[0]['dataset']}: {found[0]['trajectories']} trajectories, same noise", fontsize=9
    )
    save(figure, outputs, dpi)
