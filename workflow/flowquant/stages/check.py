"""Check what only the networks can tell of a preset: names, shapes, architecture, memory."""

from pathlib import Path

import torch

from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.custom import CustomConfig
from flowquant.config.fields import OwnFunction
from flowquant.config.model import ModelConfig
from flowquant.config.training import TrainingConfig
from flowquant.evaluation.classifier import build_classifier, penultimate
from flowquant.models import custom
from flowquant.models.model import empty_network
from flowquant.models.published import fitting_weights
from flowquant.quantization import own_levels as levels_by
from flowquant.quantization import peer
from flowquant.runtime.device import choose_device, compute_dtype, memory_bytes
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.files import write_json
from flowquant.runtime.names import DeviceName
from flowquant.training.memory import training_bytes


def check(
    output: Path,
    dataset: str,
    model: ModelConfig,
    training: TrainingConfig,
    levels_of: str | None = None,
    checkpoint: Path | None = None,
    weights: str | None = None,
    architecture: str | None = None,
    own_levels: tuple[OwnFunction, ...] = (),
    peers: tuple[Path, ...] = (),
    devices: int = 1,
    device: DeviceName = "auto",
) -> None:
    """Find what is wrong with a preset before anything is trained.

    Args:
        output: JSON to write: the network's size, and the memory that training it takes.
        dataset: Name of the preset.
        model: Network, image, condition and flow.
        training: How it is trained; not looked at with a checkpoint.
        levels_of: The weight whose levels are to be drawn, if one is named.
        checkpoint: A published checkpoint to import.
        weights: Which of its weights, where it holds several.
        architecture: Of the classifier, if there is one.
        own_levels: The user's own functions that are to choose levels.
        peers: Programs of the peers that are to quantize.
        devices: How many share a batch.
        device: Where it is trained.

    Raises:
        UserError: if there is no such weight or architecture, code of the user's own does not do
            what it is for, a peer is not installed, or checkpoint or memory do not fit.
    """
    for function in own_levels:
        levels_by.try_out(function)
    for program in peers:
        peer.try_out(program)
    if isinstance(model.network, CustomConfig):
        custom.try_out(model)
    sizes = {name: tensor.numel() for name, tensor in empty_network(model).state_dict().items()}
    if levels_of is not None and levels_of not in sizes:
        raise UserError(
            "configuration key `plot.levels_of`",
            found=f"'{levels_of}'",
            expected=f"a weight of the network of `{dataset}`: {some(sorted(sizes))}",
            remedy="Name one of them.",
        )
    report: dict[str, object] = {"dataset": dataset, "parameters": sum(sizes.values())}
    if architecture is not None:
        check_architecture(architecture, model)
    if checkpoint is not None:
        fitting_weights(checkpoint, model, weights)
    else:
        target = choose_device(device)
        dtype = compute_dtype(target, training.precision)
        parts = training_bytes(model, training, devices, dtype)
        total, at_hand = sum(parts.values()), memory_bytes(target)
        if total > at_hand:
            mebibytes = " + ".join(f"{size >> 20:,} for {name}" for name, size in parts.items())
            raise UserError(
                f"configuration key `presets.{dataset}.training.batch`",
                found=f"about {total >> 20:,} MiB of memory for a step of {training.batch} images "
                f"({mebibytes})",
                expected=f"at most {at_hand >> 20:,} MiB, which this device has",
                remedy="Train with smaller batches or a smaller network, or on another device.",
            )
        report["training_bytes"] = parts
    write_json(output, report)


def check_architecture(name: str, model: ModelConfig) -> None:
    """Raise a `UserError` unless torchvision has a classifier of this name for such images."""
    image = model.image
    config = ArchitectureConfig(name=name, image=image, classes=model.condition.count)
    with torch.device("meta"):
        network = build_classifier(config).eval()
        images = torch.empty(2, image.channels, image.size, image.size, dtype=torch.uint8)
        try:
            penultimate(network, images)
        except Exception as error:  # whatever a network raises that was made for other images
            raise UserError(
                "configuration key `classifier.architecture`",
                found=f"'{name}', which does not take images of {image.size} pixels "
                f"({str(error).partition(chr(10))[0]})",
                expected="a network that does, and ends in a linear layer",
                remedy="Name another, such as resnet18.",
            ) from error
