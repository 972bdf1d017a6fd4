"""Turn a published checkpoint into a model file."""

from __future__ import annotations

from pathlib import Path

from flowquant.config.model import ModelConfig
from flowquant.models.model import describe_model, write_model
from flowquant.models.published import fitting_weights
from flowquant.runtime.files import sha256, write_json


def import_model(
    checkpoint: Path, output: Path, report: Path, dataset: str, model: ModelConfig
) -> None:
    """Check a checkpoint against a preset and write it as a model file.

    Args:
        checkpoint: State dict (.safetensors, .pt, .pth).
        output: Model file to write.
        report: JSON to write: its size.
        dataset: Name to write into the report.
        model: What the checkpoint must be.

    Raises:
        UserError: if it is unreadable, does not fit, or is not finite.
    """
    write_model(
        output,
        fitting_weights(checkpoint, model),
        model,
        {"imported": {"file": checkpoint.name, "sha256": sha256(checkpoint)}},
    )
    write_json(report, describe_model(output, dataset))
