"""Refine a quantized model: train levels and unquantized parameters to match full precision.

Minimises E‖v_q(x_t, t, y) − v_full(x_t, t, y)‖² over the levels and the parameters that stayed
float, while each value keeps its level; or also over which level each value takes.
"""

from dataclasses import asdict
from pathlib import Path

import torch

from flowquant.config.refinement import RefineConfig
from flowquant.data.dataset import check_fits, read_dataset
from flowquant.models.model import read_model
from flowquant.quantization.codebook import effective_bits
from flowquant.quantization.describe import measure
from flowquant.quantization.packed_file import check_same_weights, read_quantized, write_quantized
from flowquant.runtime import random
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import remove, sha256, write_json
from flowquant.runtime.names import DeviceName
from flowquant.training.refinement import Refinement
from flowquant.training.resume import identity


def refine(
    model: Path,
    unrefined: Path,
    data: Path,
    output: Path,
    report: Path,
    curve: Path,
    checkpoint: Path,
    dataset: str,
    variant: str,
    settings: RefineConfig,
    condition_dropout: float = 0.0,
    device: DeviceName = "auto",
    checkpoint_seconds: float = 60.0,
) -> None:
    """Refine a quantized model and write it packed, as `quantize` does.

    A run that was killed resumes from its checkpoint.

    Args:
        model: The full-precision model file.
        unrefined: The quantized model to start from.
        data: Dataset file; its training images are used, unless ``settings.data`` is trajectories.
        output: The packed file to write.
        report: JSON to write: size, errors, and the velocity error before and after.
        curve: JSON lines to write: step, loss, learning rate, seconds.
        checkpoint: Where to keep the state of an unfinished run; removed at the end.
        dataset: Name to write into the report.
        variant: Name to write into the report.
        settings: How to refine.
        condition_dropout: Probability of withholding the condition, as in training.
        device: Where to compute.
        checkpoint_seconds: Least time between two checkpoints.

    Raises:
        UserError: if the loss is no longer finite.
    """
    full, config = read_model(model)
    quantized, metadata = read_quantized(unrefined, "model", "source_sha256", "tensors")
    check_same_weights(unrefined, quantized, model, full)
    split, _ = read_dataset(data)
    check_fits(data, split, config.image, config.condition)
    job = Refinement(
        full,
        quantized,
        config,
        settings,
        split,
        choose_device(device),
        condition_dropout,
        from_levels="compensate" in metadata,
    )
    torch.manual_seed(random.key(settings.seed, "refine validation"))
    held = job.draw(2048)
    before = job.velocity_error(held)
    files = map(sha256, (model, unrefined, data))
    name = identity(*files, asdict(settings), condition_dropout)
    job.resume(checkpoint, name)
    with job.under_way(
        job.steps_done, settings.steps, variant, checkpoint, name, checkpoint_seconds
    ) as (bar, keep):
        job.run(bar, keep)
    after = job.velocity_error(held)
    result = job.result()
    job.write_curve(curve)
    tensors = {
        name: described | measure(result[name], full[name])
        for name, described in metadata["tensors"].items()
    }
    keys = ("model", "method", "bits", "source_sha256", "compensate")
    kept = {key: metadata[key] for key in keys if key in metadata}
    write_quantized(output, result, {**kept, "tensors": tensors, "refine": asdict(settings)})
    description = {
        "dataset": dataset,
        "variant": variant,
        "method": metadata["method"],
        "refine": asdict(settings),
        "effective_bits": effective_bits(result),
        "bytes": output.stat().st_size,
        "full_bytes": model.stat().st_size,
        "seconds": round(job.seconds, 3),
        "velocity_error": {"before": before, "after": after},
        "tensors": tensors,
    }
    write_json(report, description)
    remove(checkpoint)
