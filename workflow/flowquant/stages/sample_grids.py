"""Draw a PNG grid of each samples file: a row for each class."""

from pathlib import Path

from flowquant.sampling.samples import read_samples, write_samples_grid


def sample_grids(samples: tuple[Path, ...], outputs: tuple[Path, ...], per_class: int) -> None:
    """Draw a grid of each samples file, the first ten samples of each class.

    Args:
        samples: Samples files.
        outputs: PNG to write for each.
        per_class: Samples of each class, or with attributes a tenth of all.

    Raises:
        UserError: if a file holds no samples.
    """
    for path, output in zip(samples, outputs, strict=True):
        write_samples_grid(output, read_samples(path)[0], per_class)
