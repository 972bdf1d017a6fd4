"""Turn a published checkpoint into a model file, or only check that it fits a preset."""

import sys
from pathlib import Path

from flowquant.config.checkpoint import checkpoint_files
from flowquant.config.model import ModelConfig
from flowquant.models.model import describe_model, write_model
from flowquant.models.published import fitting_weights
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import sha256, write_json


def import_model(
    checkpoint: Path,
    dataset: str,
    model: ModelConfig,
    weights: str | None = None,
    output: Path | None = None,
    report: Path | None = None,
    check: bool = False,
    training_seed: int = 0,
) -> None:
    """Check a checkpoint against a preset and write it as a model file.

    Args:
        checkpoint: State dict (.safetensors, .pt, .pth), or the index or folder of several files.
        dataset: The preset's name, to print or to write into the report.
        model: What the checkpoint must be.
        weights: Which of its weights, where it holds several; None: the moving average, if any.
        output: Model file to write.
        report: JSON to write: its size.
        check: Print a line if the checkpoint fits, and write nothing.
        training_seed: The training seed of a run that it stands for, to write into the report.

    Raises:
        UserError: if it does not fit or is not finite, or there is nowhere to write it.
    """
    if not check and (output is None or report is None):
        raise UserError(
            "import_model",
            found="no --output or no --report",
            expected="both, or --check True",
            remedy="Say where to write the model and its report, or only check the checkpoint.",
        )
    found, taken = fitting_weights(checkpoint, model, weights)
    if taken:
        print(f"{dataset}: of {checkpoint} the weights under `{taken}` are taken", file=sys.stderr)
    if check:
        count = sum(tensor.numel() for tensor in found.values())
        print(f"{dataset}: {checkpoint} fits: {len(found)} tensors, {count:,} parameters")
    if output is None or report is None:
        return
    files = {path.name: sha256(path) for path in checkpoint_files(checkpoint)}
    imported = {"file": checkpoint.name, "weights": taken, "sha256": "+".join(files.values())}
    write_model(output, found, model, {"imported": imported})
    write_json(report, describe_model(output, dataset, training_seed) | {"weights": taken})
