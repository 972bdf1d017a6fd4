"""Samples of all variants side by side: a row each, a column for each noise and class."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from flowquant.config.variants import Variant
from flowquant.report.style import save
from flowquant.report.tables import write_table
from flowquant.sampling.samples import read_samples

# Inches of an image with its margin, and of the name above a row.
CELL, NAME = 0.42, 0.19
COLUMNS = ("dataset", "variant", "seed", "row", "column", "index", "label")


def plot_samples(
    samples: tuple[Path, ...], outputs: tuple[Path, ...], columns: int, data: Path, dpi: int
) -> None:
    """Show the same samples of each variant, which started from the same noise.

    Args:
        samples: Samples files, one a variant, of the same labels and seed.
        outputs: Figures to write, format by suffix.
        columns: Samples of each variant, evenly over all there are.
        data: CSV to write: which sample of which file is where.
        dpi: Resolution of PNG files.
    """
    strips, rows, names = [], [], []
    for row, path in enumerate(samples):
        images, labels, origin = read_samples(path)
        chosen = torch.linspace(0, len(images) - 1, columns).round().long()
        padded = torch.nn.functional.pad(images[chosen], (1, 1, 1, 1), value=255)
        strips.append(torch.cat(list(padded), dim=2).permute(1, 2, 0).numpy())
        names.append(Variant.parse(origin.variant, path).label)
        shared = {"dataset": origin.dataset, "variant": origin.variant, "seed": origin.seed}
        for column, index in enumerate(chosen.tolist()):
            place = {"row": row, "column": column, "index": index}
            rows.append(shared | place | {"label": labels[index].tolist()})
    figure = Figure(figsize=(CELL * columns, (CELL + NAME) * len(samples)))
    panels = figure.subplots(len(samples), squeeze=False)[:, 0]
    for axes, strip, name in zip(panels, strips, names, strict=True):
        axes.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(name, loc="left", fontsize=9, pad=2.5)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
    top = 1 - NAME / (CELL + NAME) / len(samples)
    figure.subplots_adjust(left=0, right=1, top=top, bottom=0, hspace=NAME / CELL)
    save(figure, outputs, dpi)
    write_table(data, COLUMNS, rows)
