"""Refine a quantized model: train levels and unquantized parameters to match full precision.

Minimises E‖v_q(x_t, t, y) − v_full(x_t, t, y)‖² over the levels and the parameters that stayed
float, while each value keeps its level; or also over which level each value takes.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from tqdm import tqdm

from flowquant.config.refinement import RefineConfig
from flowquant.data.dataset import check_fits, read_dataset
from flowquant.models.model import read_model
from flowquant.quantization.codebook import effective_bits
from flowquant.quantization.describe import measure
from flowquant.quantization.packed_file import read_quantized, write_quantized
from flowquant.runtime import random
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import atomic, sha256, write_json
from flowquant.runtime.names import DeviceName
from flowquant.training.refinement import Refinement
from flowquant.training.resume import Keeper, identity, load_state

LOG_STEPS = 50


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
    refine: RefineConfig,
    withhold: float = 0.0,
    device: DeviceName = "auto",
    checkpoint_seconds: float = 60.0,
) -> None:
    """Refine a quantized model and write it packed, as `quantize` does.

    A run that was killed goes on from its checkpoint.

    Args:
        model: The full-precision model file.
        unrefined: The quantized model to start from.
        data: Dataset file; its training images are used, unless ``refine.data`` is trajectories.
        output: The packed file to write.
        report: JSON to write: size, errors, and the velocity error before and after.
        curve: JSON lines to write: step, loss, learning rate, seconds.
        checkpoint: Where to keep the state of an unfinished run; removed at the end.
        dataset: Name to write into the report.
        variant: Name to write into the report.
        refine: How to refine.
        withhold: Probability of withholding the condition, as in training.
        device: Where to compute.
        checkpoint_seconds: Least time between two checkpoints.

    Raises:
        UserError: if a file is unreadable, or the loss is no longer finite.
    """
    full, config = read_model(model)
    quantized, metadata = read_quantized(unrefined)
    split, _ = read_dataset(data)
    check_fits(data, split, config.image, config.condition)
    where = choose_device(device)
    job = Refinement(full, quantized, config, refine, split, where, withhold)
    torch.manual_seed(random.key(refine.seed, "refine validation"))
    held = job.draw(2048)
    before = job.velocity_error(held)
    name = identity(sha256(model), sha256(unrefined), sha256(data), asdict(refine), withhold)
    if (state := load_state(checkpoint, name, where)) is not None:
        job.load(state)
        tqdm.write(f"going on after step {job.step}, from {checkpoint}")
    with (
        tqdm(
            total=refine.steps, initial=job.step, unit="step", mininterval=1.0, desc=variant
        ) as bar,
        Keeper(checkpoint, name, job.state, checkpoint_seconds) as keep,
    ):
        while job.step < refine.steps:
            job.train(min(LOG_STEPS, refine.steps - job.step), bar)
            keep()
    after = job.velocity_error(held)
    result = job.result()
    with atomic(curve) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in job.curve))
    tensors = {
        name: described | measure(result[name], full[name])
        for name, described in metadata["tensors"].items()
    }
    told = {key: metadata[key] for key in ("model", "method", "bits", "source_sha256")}
    write_quantized(output, result, {**told, "tensors": tensors, "refine": asdict(refine)})
    write_json(
        report,
        {
            "dataset": dataset,
            "variant": variant,
            "method": metadata["method"],
            "refine": asdict(refine),
            "effective_bits": effective_bits(result),
            "bytes": output.stat().st_size,
            "full_bytes": model.stat().st_size,
            "seconds": round(job.seconds, 3),
            "velocity_error": {"before": before, "after": after},
            "tensors": tensors,
        },
    )
    checkpoint.unlink(missing_ok=True)
