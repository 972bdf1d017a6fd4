"""Histograms of a weight tensor's values with the levels that each variant gives them."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from flowquant.config.variants import Variant
from flowquant.models.model import read_model
from flowquant.quantization.codebook import Codebook
from flowquant.quantization.packed_file import check_same_weights, read_quantized
from flowquant.report.look import method_style
from flowquant.report.style import WIDTH, save
from flowquant.report.tables import write_table
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.tensors import read_metadata

MOST_LEVELS = 64
LEAST_BINS, MOST_BINS = 12, 100
COLUMNS = ("tensor", "variant", "of", "what", "start", "end", "values")


@dataclass(frozen=True)
class Group:
    """Values that share levels: float32 [n], the levels that any of them takes [L], how many do."""

    name: str
    values: Tensor
    levels: Tensor
    taken: Tensor


def first_group(content: Codebook, weights: Tensor) -> Group:
    """The first values that a codebook's levels belong to: a tensor's, a row's, or a scale's."""
    groups = len(content.levels) if content.scales is None else len(content.scales)
    n = weights.numel() // groups
    levels, indices = content.levels[0].float(), content.indices.flatten()[:n].long()
    if content.scales is not None:
        levels = levels * content.scales[0].float()
    taken = indices.bincount(minlength=len(levels))
    name = f"all {n:,} values" if groups == 1 else f"the first {n:,} values of {weights.numel():,}"
    return Group(name, weights.flatten()[:n], levels[taken > 0], taken[taken > 0])


def plot_levels(
    model: Path,
    quantized: tuple[Path, ...],
    names: tuple[str, ...],
    tensor: str | None,
    outputs: tuple[Path, ...],
    data: Path,
    dpi: int,
) -> None:
    """Plot values of one tensor and the levels that replace them, a panel for each variant.

    Variants with more than 64 levels are left out, whose lines would fill the panel, and vectors.
    Where levels belong to a row or group of the tensor, its values alone are shown.

    Args:
        model: Model file.
        quantized: Quantized model files.
        names: The variant of each.
        tensor: Which tensor, or the largest that a variant quantizes.
        outputs: Figures to write, format by suffix.
        data: CSV to write: a row for each bin of a histogram and for each level.
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
    shown = {}
    for name, path in zip(names, quantized, strict=True):
        contents, _ = read_quantized(path)
        check_same_weights(path, contents, model, weights)
        content = contents[tensor]
        if not isinstance(content, Codebook) or content.dimension > 1:
            continue
        if content.levels.shape[1] <= MOST_LEVELS:
            shown[Variant.parse(name, path)] = first_group(content, weights[tensor])
    shown = shown or {Variant("full"): Group("all values", weights[tensor].flatten(), *_none())}
    figure = Figure(figsize=(WIDTH, 0.8 + 0.95 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), sharex=True, squeeze=False)[:, 0]
    rows: list[dict[str, object]] = []
    for axes, (variant, group) in zip(panels, shown.items(), strict=True):
        bins = min(MOST_BINS, max(LEAST_BINS, round(2 * math.sqrt(len(group.values)))))
        counts, edges = np.histogram(group.values.numpy(), bins=bins)
        _draw(axes, variant, group, counts / counts.max(), edges)
        levels = zip(group.levels.tolist(), group.taken.tolist(), strict=True)
        columns = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
        shared = {"tensor": tensor, "variant": variant, "of": group.name}
        for start, end, count in columns:
            rows.append(shared | {"what": "bin", "start": start, "end": end, "values": count})
        for level, count in levels:
            rows.append(shared | {"what": "level", "start": level, "end": level, "values": count})
    panels[-1].set_xlabel(tensor)
    figure.suptitle("grey: values; lines: levels, as high as values take them")
    save(figure, outputs, dpi)
    write_table(data, COLUMNS, rows)


def _none() -> tuple[Tensor, Tensor]:
    return torch.empty(0), torch.empty(0, dtype=torch.long)


def _draw(
    axes: Axes, variant: Variant, group: Group, heights: np.ndarray, edges: np.ndarray
) -> None:
    axes.stairs(heights, edges, fill=True, color="#c8c8c8")
    if len(group.levels):
        colour = method_style(variant.method)["color"]
        share = group.taken / group.taken.max()
        axes.vlines(group.levels.numpy(), 0, share.numpy(), color=colour, linewidth=1.3)
    axes.set_title(f"{variant.label}: {group.name}", loc="left", fontsize=8, pad=2)
    axes.set_ylim(0, 1.05)
    axes.set_yticks([])
    axes.grid(False)
