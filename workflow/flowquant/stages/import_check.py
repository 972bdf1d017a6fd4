"""Say whether a checkpoint fits a preset, and write nothing."""

from __future__ import annotations

from pathlib import Path

from flowquant.config.model import ModelConfig
from flowquant.models.published import fitting_weights


def import_check(checkpoint: Path, dataset: str, model: ModelConfig) -> None:
    """Check a checkpoint against a preset and print a line if it fits.

    Args:
        checkpoint: State dict (.safetensors, .pt, .pth).
        dataset: The preset's name, to print.
        model: What the checkpoint must be.

    Raises:
        UserError: if it is unreadable, does not fit, or is not finite.
    """
    weights = fitting_weights(checkpoint, model)
    count = sum(tensor.numel() for tensor in weights.values())
    print(f"{dataset}: {checkpoint} fits: {len(weights)} tensors, {count:,} parameters")
