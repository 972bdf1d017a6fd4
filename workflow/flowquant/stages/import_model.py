"""Turn a published checkpoint into a model file, or only check that it fits a preset."""

from pathlib import Path

from flowquant.config.model import ModelConfig
from flowquant.models.model import describe_model, write_model
from flowquant.models.published import fitting_weights
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import sha256, write_json


def import_model(
    checkpoint: Path,
    dataset: str,
    model: ModelConfig,
    output: Path | None = None,
    report: Path | None = None,
    check: bool = False,
) -> None:
    """Check a checkpoint against a preset and write it as a model file.

    Args:
        checkpoint: State dict (.safetensors, .pt, .pth).
        dataset: The preset's name, to print or to write into the report.
        model: What the checkpoint must be.
        output: Model file to write.
        report: JSON to write: its size.
        check: Print a line if the checkpoint fits, and write nothing.

    Raises:
        UserError: if it does not fit or is not finite, or there is nowhere to write it.
    """
    if check:
        weights = fitting_weights(checkpoint, model)
        count = sum(tensor.numel() for tensor in weights.values())
        print(f"{dataset}: {checkpoint} fits: {len(weights)} tensors, {count:,} parameters")
        return
    if output is None or report is None:
        raise UserError(
            "import_model",
            found="no --output or no --report",
            expected="both, or --check True",
            remedy="Say where to write the model and its report, or only check the checkpoint.",
        )
    provenance = {"imported": {"file": checkpoint.name, "sha256": sha256(checkpoint)}}
    write_model(output, fitting_weights(checkpoint, model), model, provenance)
    write_json(report, describe_model(output, dataset))
