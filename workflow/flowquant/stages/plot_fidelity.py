"""Velocity error and trajectory divergence over time, a line for each variant."""

from pathlib import Path

from matplotlib.figure import Figure

from flowquant.report.results import Fidelity
from flowquant.report.style import save, series_style
from flowquant.report.tables import read_results

PANELS = {
    "velocity_error": "relative velocity error",
    "divergence": "divergence of trajectories (RMS)",
}
MOST_LINES = 14
FEW_BITS = 2.5


def plot_fidelity(results: tuple[Path, ...], outputs: tuple[Path, ...], dpi: int) -> None:
    """Plot how the error grows along the flow.

    Beyond 14 variants those of less than 2.5 bits are drawn, or the first 14 of them: a figure
    holds no more lines; the results' files hold all.

    Args:
        results: What `fidelity` wrote for the variants of one dataset, for one seed.
        outputs: Figures to write, format by suffix.
        dpi: Resolution of PNG files.
    """
    found = read_results(results, Fidelity)
    if len(found) > MOST_LINES:
        low = [result for result in found if result["variant"].bits < FEW_BITS]
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
            times, values = [t for t, _ in points], [value for _, value in points]
            axes.plot(times, values, label=result["variant"].label, **style)
        axes.set_xlabel("t (0 noise, 1 image)")
        axes.set_ylabel(label)
        axes.set_yscale("log")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside right center", fontsize=7)
    figure.suptitle(f"{found[0]['dataset']}: {found[0]['trajectories']} trajectories, same noise")
    save(figure, outputs, dpi)
