"""Histogram of a weight tensor with each variant's levels drawn in."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from flowquant.models.model import read_model
from flowquant.quantization.codebook import Codebook
from flowquant.quantization.packed_file import check_same_weights, read_quantized
from flowquant.report.style import COLOURS, save
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.files import write_json
from flowquant.runtime.tensors import read_metadata

MOST_LEVELS = 64


def plot_levels(
    model: Path,
    quantized: tuple[Path, ...],
    names: tuple[str, ...],
    tensor: str | None,
    outputs: tuple[Path, ...],
    data: Path,
    dpi: int,
) -> None:
    """Plot one tensor's values and the levels that replace them, a panel for each variant.

    Variants with more than 64 levels are left out, whose lines would fill the panel, and vectors.

    Args:
        model: Model file.
        quantized: Quantized model files.
        names: Name of each, for its panel.
        tensor: Which tensor, or the largest that a variant quantizes; the first group's levels are
            drawn where it has several.
        outputs: Figures to write, format by suffix.
        data: JSON to write: what was drawn.
        dpi: Resolution of PNG files.

    Raises:
        UserError: if the model lacks the tensor, or a file is of another model.
    """
    weights, _ = read_model(model)
    if tensor is None:
        packed = {name for path in quantized for name in read_metadata(path).get("packed", ())}
        # The first by name of those of one size, whatever the file's order.
        tensor = max(sorted(packed & weights.keys() or weights), key=lambda n: weights[n].numel())
    if tensor not in weights:
        raise UserError(
            "plot.levels_of",
            found=f"'{tensor}'",
            expected=f"one of {some(sorted(weights))}",
            remedy="Name a weight of the network.",
        )
    counts, edges = np.histogram(weights[tensor].numpy(), bins=120)
    levels = {}
    for name, path in zip(names, quantized, strict=True):
        contents, _ = read_quantized(path)
        check_same_weights(path, contents, model, weights)
        content = contents[tensor]
        if not isinstance(content, Codebook) or content.dimension > 1:
            continue
        if content.levels.shape[1] <= MOST_LEVELS:
            levels[name] = content.levels[0].tolist()
    figure = Figure(figsize=(6, 1 + 1.3 * max(1, len(levels))), layout="constrained")
    panels = figure.subplots(max(1, len(levels)), sharex=True, squeeze=False)[:, 0]
    for axes, (name, lines) in zip(panels, levels.items(), strict=False):
        axes.stairs(counts, edges, fill=True, color=COLOURS[5], alpha=0.6)
        for level in lines:
            axes.axvline(level, color=COLOURS[1], linewidth=0.8)
        axes.set_ylabel(name, fontsize=8)
        axes.set_yticks([])
        axes.grid(False)
    panels[-1].set_xlabel(tensor)
    save(figure, outputs, dpi)
    write_json(
        data,
        {"tensor": tensor, "edges": edges.tolist(), "counts": counts.tolist(), "levels": levels},
    )
