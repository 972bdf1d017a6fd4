"""Which tensor was given how many bits, within a budget."""

from pathlib import Path

from matplotlib.figure import Figure

from flowquant.quantization.allocation import Allocation
from flowquant.report.look import COLOURS
from flowquant.report.style import save
from flowquant.runtime.files import read_json


def plot_allocation(allocation: Path, outputs: tuple[Path, ...], dpi: int) -> None:
    """Draw the width of each tensor as a bar.

    Args:
        allocation: What `allocate` wrote; it is the plot's data file.
        outputs: Figures to write, format by suffix.
        dpi: Resolution of PNG files.
    """
    content = read_json(allocation, Allocation)
    names = list(content.tensors)
    widths = [content.tensors[name].width for name in names]
    figure = Figure(figsize=(6, 0.6 + 0.17 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(names)), widths, color=COLOURS["blue"])
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.invert_yaxis()
    axes.set_xlabel("bits of an index")
    axes.set_title(
        f"{content.dataset}, {content.variant}: {content.effective_bits:.2f} effective "
        f"bits of {content.budget:g}"
    )
    axes.grid(False, axis="y")
    save(figure, outputs, dpi)
