"""Refine a quantized model: train levels and unquantized parameters to match full precision.

Minimises E‖v_q(x_t, t, y) − v_full(x_t, t, y)‖² over the levels and the parameters that stayed
float, while each value keeps its level; or also over which level each value takes.
"""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from flowquant.config.model import ModelConfig
from flowquant.config.refinement import RefineConfig
from flowquant.data.dataset import Split, check_fits, read_dataset
from flowquant.models.model import read_model
from flowquant.quantization.codebook import Codebook, effective_bits
from flowquant.quantization.describe import measure
from flowquant.quantization.packed_file import check_same_weights, read_quantized, write_quantized
from flowquant.runtime import random
from flowquant.runtime.device import choose_devices
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import remove, sha256, write_json
from flowquant.runtime.names import DeviceName
from flowquant.training.distributed import Group, together
from flowquant.training.refinement import Refinement
from flowquant.training.resume import identity


def read(
    model: Path, unrefined: Path, data: Path
) -> tuple[dict[str, Tensor], ModelConfig, dict[str, Codebook | Tensor], dict[str, Any], Split]:
    """The full weights, their model, the quantized weights with what their file says, the data.

    Raises:
        UserError: if the files do not belong together.
    """
    full, config = read_model(model)
    quantized, metadata = read_quantized(unrefined, "model", "source_sha256", "tensors")
    check_same_weights(unrefined, quantized, model, full)
    split, _ = read_dataset(data)
    check_fits(data, split, config.image, config.condition)
    return full, config, quantized, metadata, split


def follow(
    group: Group,
    device: torch.device,
    files: tuple[Path, Path, Path],
    settings: RefineConfig,
    condition_dropout: float,
    checkpoint: Path,
    name: str,
) -> None:
    """A helper's part of a refinement: its share of each batch; it writes nothing."""
    full, config, quantized, metadata, split = read(*files)
    from_levels = "compensate" in metadata
    job = Refinement(
        full, quantized, config, settings, split, device, condition_dropout, group, from_levels
    )
    job.resume(checkpoint, name)
    # The first process comes to the same error, and reports it.
    with suppress(UserError):
        job.run(tqdm(disable=True), lambda: None)


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
    devices: int = 1,
    training_seed: int = 0,
    checkpoint_seconds: float = 60.0,
) -> None:
    """Refine a quantized model and write it packed, as `quantize` does.

    A run that was killed resumes from its checkpoint, also on another number of devices.

    Args:
        model: The full-precision model file.
        unrefined: The quantized model to start from.
        data: Dataset file; its training images are used, unless ``settings.data`` is trajectories.
        output: The packed file to write.
        report: JSON to write: size, errors, and the velocity error before and after.
        curve: JSON lines to write: step, loss, learning rate, seconds.
        checkpoint: Where to keep the state of an unfinished run; removed at the end.
        dataset: Name to write into the report.
        training_seed: The seed that the model was trained with, to write into the report.
        variant: Name to write into the report.
        settings: How to refine.
        condition_dropout: Probability of withholding the condition, as in training.
        device: Where to compute.
        devices: On how many devices; each takes its share of a batch.
        checkpoint_seconds: Least time between two checkpoints.

    Raises:
        UserError: if the files do not belong together, devices cannot share a batch, or the loss
            is no longer finite.
    """
    if settings.batch % devices:
        raise UserError(
            "refine.devices",
            found=str(devices),
            expected=f"a divisor of the batch {settings.batch}",
            remedy="Choose `refine.batch` and `refine.devices` so that devices share alike.",
        )
    files = model, unrefined, data
    full, config, quantized, metadata, split = read(*files)
    targets = choose_devices(device, devices, "refine.devices")
    name = identity(*map(sha256, files), asdict(settings), condition_dropout)
    common = files, settings, condition_dropout, checkpoint, name
    with together(targets, follow, *common) as group:
        job = Refinement(
            full,
            quantized,
            config,
            settings,
            split,
            targets[0],
            condition_dropout,
            group,
            from_levels="compensate" in metadata,
        )
        torch.manual_seed(random.key(settings.seed, "refine validation"))
        held = job.draw(2048)
        before = job.velocity_error(held)
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
        "training_seed": training_seed,
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
