"""Generated images as a file, with the labels asked for and where they came from."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowquant.runtime.files import atomic
from flowquant.runtime.header import Kind
from flowquant.runtime.tensors import read_file, write_tensors

# The most images of a class, and the most classes, that a grid of samples shows.
GRID_COLUMNS = 10
GRID_ROWS = 100
# Small images are enlarged until they are about so many pixels wide, and at least twice.
GRID_WIDTH = 48


@dataclass(frozen=True)
class Origin:
    """Which variant of which dataset's model, and which seed, a result belongs to.

    The variant is ``full``, ``real`` or ``{method}/{bits}bit``; the seed that of the noise, or of
    the draw of real images; ``evaluations`` how often the velocity was evaluated for each image, on
    average; ``training_seed`` that of the model; ``start`` a digest of the noise and labels that
    samples began with. The last three are None for real images.
    """

    dataset: str
    variant: str
    seed: int
    evaluations: float | None = None
    training_seed: int | None = None
    start: str | None = None


SAMPLES = Kind(
    "samples file",
    "`sample` or `sample_real`",
    Origin,
    {
        "images": "uint8 [N, 1, S, S] or uint8 [N, 3, S, S]",
        "labels": "int64 [N] or uint8 [N, A]",
    },
)


def write_samples(path: Path, images: Tensor, labels: Tensor, origin: Origin) -> None:
    """Write uint8 images [N, C, H, W] and their classes [N] or attributes [N, A]."""
    write_tensors(path, {"images": images, "labels": labels}, asdict(origin), SAMPLES)


def read_samples(path: Path) -> tuple[Tensor, Tensor, Origin]:
    """Read what `write_samples` wrote.

    Raises:
        UserError: if the file is unreadable or holds no samples.
    """
    content = read_file(path, SAMPLES)
    return content.tensors["images"], content.tensors["labels"], content.described


def write_samples_grid(path: Path, images: Tensor, per_class: int) -> None:
    """Write the first of samples uint8 [N, C, H, W] of each class as a PNG, a class a row.

    ``per_class`` of each class lie one after another (with attributes: ten rows of as many). Of
    more classes than there are rows, evenly spaced ones are shown.
    """
    classes = images.view(-1, per_class, *images.shape[1:])
    rows = torch.linspace(0, len(classes) - 1, min(len(classes), GRID_ROWS)).round().long()
    shown = classes[rows, :GRID_COLUMNS]
    enlarge = max(2, GRID_WIDTH // images.shape[-1])
    write_grid(path, shown.flatten(0, 1), shown.shape[1], enlarge)


def write_grid(path: Path, images: Tensor, columns: int, enlarge: int = 1) -> None:
    """Write images uint8 [N, C, H, W], C 1 or 3, as a PNG, a white line between them.

    ``columns`` to a row, each pixel a square of ``enlarge`` pixels.
    """
    from PIL import Image

    n, channels, height, width = images.shape
    rows = -(-n // columns)
    pixels = images.permute(0, 2, 3, 1).numpy().repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    tall, wide = height * enlarge + 1, width * enlarge + 1
    canvas = np.full((rows * tall + 1, columns * wide + 1, channels), 255, dtype=np.uint8)
    for index, tile in enumerate(pixels):
        top, left = index // columns * tall + 1, index % columns * wide + 1
        canvas[top : top + tall - 1, left : left + wide - 1] = tile
    with atomic(path) as temporary:
        Image.fromarray(canvas.squeeze(2) if channels == 1 else canvas).save(temporary)
