"""Samples of all variants side by side: a row each, a column for each noise and class."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

from flowquant.config.variants import Variant
from flowquant.report.style import save
from flowquant.sampling.samples import read_samples


def plot_samples(
    samples: tuple[Path, ...], outputs: tuple[Path, ...], columns: int, dpi: int
) -> None:
    """Show the same samples of each variant, which started from the same noise.

    Args:
        samples: Samples files, one a variant, of the same labels and seed.
        outputs: Figures to write, format by suffix.
        columns: Samples of each variant, evenly over all there are.
        dpi: Resolution of PNG files.
    """
    figure = Figure(figsize=(columns * 0.42 + 1, len(samples) * 0.45 + 0.2))
    panels = figure.subplots(len(samples), squeeze=False)[:, 0]
    for axes, path in zip(panels, samples, strict=True):
        images, _, origin = read_samples(path)
        chosen = images[torch.linspace(0, len(images) - 1, columns).round().long()]
        strip = torch.cat(list(torch.nn.functional.pad(chosen, (1, 1), value=255)), dim=2)
        axes.imshow(
            strip.permute(1, 2, 0).numpy(), cmap="gray", vmin=0, vmax=255, interpolation="nearest"
        )
        label = Variant.parse(origin.variant, path).label
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.grid(False)
        for spine in axes.spines.values():
            spine.set_visible(False)
    figure.subplots_adjust(left=0.12, right=1, top=1, bottom=0, hspace=0.05)
    save(figure, outputs, dpi)
