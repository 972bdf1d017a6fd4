"""Train a velocity network by flow matching; keep the weights with the best validation loss."""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from flowquant.config.model import ModelConfig
from flowquant.config.training import TrainingConfig
from flowquant.data.dataset import Part, Split, check_fits, place, read_dataset, read_validation
from flowquant.models.model import describe_model, write_model
from flowquant.runtime import random
from flowquant.runtime.device import choose_devices
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import remove, sha256, write_json
from flowquant.runtime.names import DeviceName
from flowquant.training.distributed import Group, together
from flowquant.training.flow_matching import Training
from flowquant.training.resume import identity


def hold_out(split: Split, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to fit and ``count`` rows to validate on, drawn without replacement."""
    order = torch.randperm(len(split), generator=random.generator(seed, "validation split"))
    return order[count:], order[:count]


def fit_and_held_out(
    data: Path, model: ModelConfig, training: TrainingConfig, seed: int, device: torch.device
) -> tuple[Part, Part]:
    """What to fit and what to validate on: the dataset's own validation split, or rows held out.

    Raises:
        UserError: if the data do not fit the preset, or are too few.
    """
    split, _ = read_dataset(data)
    check_fits(data, split, model.image, model.condition)
    own = read_validation(data)
    held_out = training.validation or 0
    if training.validation is None and own is None:
        raise UserError(
            "training.validation",
            found=f"null for {data}, which has no validation split",
            expected="the number of training images to hold out",
            remedy="Set `training.validation`.",
        )
    if len(split) - held_out < training.batch:
        raise UserError(
            "training",
            found=f"`validation: {training.validation}` and `batch: {training.batch}` for "
            f"{len(split)} training images",
            expected="at least one batch of images besides the held-out ones",
            remedy="Make `training.validation` or `training.batch` smaller.",
        )
    split = place(split, device)
    if training.validation is None and own is not None:
        check_fits(data, own, model.image, model.condition)
        return Part(split, torch.arange(len(split))), Part(own, torch.arange(len(own)))
    fit, rest = hold_out(split, held_out, seed)
    return Part(split, fit), Part(split, rest)


def follow(
    group: Group,
    device: torch.device,
    data: Path,
    model: ModelConfig,
    training: TrainingConfig,
    seed: int,
    checkpoint: Path,
    name: str,
) -> None:
    """A helper's part of a training run: its share of each batch; it writes nothing."""
    fit, held_out = fit_and_held_out(data, model, training, seed, device)
    job = Training(model, training, seed, device, group)
    job.resume(checkpoint, name)
    # The first process comes to the same error, and reports it.
    with suppress(UserError):
        job.run(fit, held_out, tqdm(disable=True), lambda: None)


def train(
    data: Path,
    output: Path,
    report: Path,
    curve: Path,
    checkpoint: Path,
    dataset: str,
    model: ModelConfig,
    training: TrainingConfig,
    seed: int = 0,
    device: DeviceName = "auto",
    devices: int = 1,
    checkpoint_seconds: float = 60.0,
) -> None:
    """Train a velocity network and write its best weights.

    A run that was killed resumes from its checkpoint if it is the same run (same configuration,
    seed and data) and ends with the weights it would have had. It may resume on another number of
    devices: that changes rounding, and which values dropout drops.

    Args:
        data: Dataset file: its training split, and where ``validation`` is None its own one.
        output: The model file to write.
        report: JSON to write: size and best epoch.
        curve: Training curve to write, one JSON object an epoch.
        checkpoint: Where to keep the state of an unfinished run; removed at the end.
        dataset: Name to write into the report.
        model: What to train.
        training: How to train it.
        seed: Of initial weights, split, order, times, noise and dropout.
        device: Where to compute.
        devices: On how many devices; each takes its share of a batch.
        checkpoint_seconds: Least time between two checkpoints.

    Raises:
        UserError: if the data do not fit, devices cannot share a batch, or the loss diverges.
    """
    if training.batch % devices:
        raise UserError(
            "training.devices",
            found=str(devices),
            expected=f"a divisor of the batch {training.batch}",
            remedy="Choose `training.batch` and `training.devices` so that devices share alike.",
        )
    targets = choose_devices(device, devices, "training.devices")
    fit, held_out = fit_and_held_out(data, model, training, seed, targets[0])
    name = identity(sha256(data), asdict(model), asdict(training), seed)
    with together(targets, follow, data, model, training, seed, checkpoint, name) as group:
        job = Training(model, training, seed, targets[0], group)
        job.resume(checkpoint, name)
        steps = len(fit) // training.batch
        done = job.progress.epoch * steps + job.progress.step
        with job.under_way(
            done, training.epochs * steps, output.stem, checkpoint, name, checkpoint_seconds
        ) as (bar, keep):
            job.run(fit, held_out, bar, keep)
    job.write_curve(curve)
    best = asdict(job.progress)
    # How long it took is for the report: the same run makes the same model file, to the byte.
    kept = {name: value for name, value in best.items() if name != "seconds"}
    provenance = {"training": asdict(training), "devices": devices, "seed": seed, "best": kept}
    write_model(output, job.best, model, provenance)
    write_json(report, describe_model(output, dataset, seed) | best)
    remove(checkpoint)
