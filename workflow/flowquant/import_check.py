"""Say whether a checkpoint fits a preset, and write nothing."""

from __future__ import annotations

from pathlib import Path

from flowquant.cli import run
from flowquant.import_model import check_shapes, read_checkpoint
from flowquant.model import ModelConfig, check_finite


def import_check(checkpoint: Path, dataset: str, model: ModelConfig) -> None:
    """Check a checkpoint against a preset and print a line if it fits.

    Args:
        checkpoint: State dict (.safetensors, .pt, .pth).
        dataset: The preset's name, to print.
        model: What the checkpoint must be.

    Raises:
        UserError: if it is unreadable, does not fit, or is not finite.
    """
    weights = read_checkpoint(checkpoint)
    check_shapes(checkpoint, weights, model)
    check_finite(checkpoint, weights)
    count = sum(tensor.numel() for tensor in weights.values())
    print(f"{dataset}: {checkpoint} fits: {len(weights)} tensors, {count:,} parameters")


if __name__ == "__main__":
    run(import_check)
