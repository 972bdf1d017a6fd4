"""How losses fell: of the network in training, and of each variant in refinement."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from flowquant.config.variants import Variant
from flowquant.report.curves import Epoch, Step, read_curve, smoothed
from flowquant.report.look import place, variant_style
from flowquant.report.style import WIDTH, legend_below, logarithmic, name_end, save
from flowquant.report.tables import Row, write_table

COLUMNS = ("dataset", "curve", "epoch", "step", "loss")
PANEL_HEIGHT = 2.8
# Of a curve so many lines are drawn as one, so that noise does not hide what is below it.
SMOOTH = 20
# Epochs from which a line shows them all.
FEW = 10


def plot_curves(
    dataset: str,
    outputs: tuple[Path, ...],
    data: Path,
    dpi: int,
    training: tuple[Path, ...] = (),
    refinements: tuple[Path, ...] = (),
    names: tuple[str, ...] = (),
) -> None:
    """Plot the curves of one dataset, a panel for training and one for refinement.

    Args:
        dataset: Whose they are.
        outputs: Figures to write, format by suffix.
        data: CSV to write: all lines of all curves.
        dpi: Resolution of PNG files.
        training: The curve that `train` wrote; none of an imported network.
        refinements: The curves that `refine` wrote, if any.
        names: The variant of each refinement.

    Raises:
        UserError: if a curve is unreadable.
    """
    epochs = [line for path in training for line in read_curve(path, Epoch)]
    # Few steps may have left no line.
    refined = {
        Variant.parse(name, path): lines
        for name, path in zip(names, refinements, strict=True)
        if (lines := read_curve(path, Step))
    }
    write_table(data, COLUMNS, _rows(dataset, epochs, refined))
    panels = bool(epochs) + bool(refined)
    figure = Figure(figsize=(WIDTH, PANEL_HEIGHT * max(1, panels)), layout="constrained")
    subplots = iter(figure.subplots(max(1, panels), squeeze=False)[:, 0])
    if epochs:
        _draw_training(next(subplots), epochs)
    if refined:
        axes = next(subplots)
        _draw_refinement(axes, refined)
        handles, labels = axes.get_legend_handles_labels()
        legend_below(figure, dict(zip(labels, handles, strict=True)))
    figure.suptitle(f"{dataset}: loss in training{' and in refinement' if refined else ''}")
    save(figure, outputs, dpi)


def _rows(dataset: str, epochs: list[Epoch], refined: dict[Variant, list[Step]]) -> list[Row]:
    rows: list[Row] = []
    for line in epochs:
        shared = {"dataset": dataset, "epoch": line.epoch}
        rows.append(shared | {"curve": "training", "loss": line.train_loss})
        rows.append(shared | {"curve": "validation", "loss": line.validation_loss})
    for variant, lines in refined.items():
        shared = {"dataset": dataset, "curve": str(variant)}
        rows += [shared | {"step": line.step, "loss": line.loss} for line in lines]
    return rows


def _draw_training(axes: Axes, epochs: list[Epoch]) -> None:
    numbers = [line.epoch for line in epochs]
    marker = "." if len(epochs) < FEW else ""
    training, validation = zip(*((e.train_loss, e.validation_loss) for e in epochs), strict=True)
    axes.plot(numbers, training, label="training", color="#909090", marker=marker)
    axes.plot(numbers, validation, label="validation", color="black", linestyle="--", marker=marker)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch of training")
    axes.set_ylabel("flow-matching loss")
    axes.set_yscale("log")
    logarithmic(axes.yaxis)
    axes.legend()


def _draw_refinement(axes: Axes, refined: dict[Variant, list[Step]]) -> None:
    for variant in sorted(refined, key=lambda variant: (*place(variant.method), variant)):
        lines = refined[variant]
        losses = smoothed([line.loss for line in lines], len(lines) // SMOOTH)
        every = max(1, len(lines) // 6)
        style = variant_style(variant)
        axes.plot(
            [line.step for line in lines],
            losses,
            label=variant.label,
            **{"linewidth": 1.3, "markevery": every} | style,
        )
        name_end(axes, (lines[-1].step, losses[-1]), variant.width, style["color"])
    axes.set_xlabel("step of refinement")
    axes.set_ylabel("distance from full precision")
    axes.set_yscale("log")
    logarithmic(axes.yaxis)
