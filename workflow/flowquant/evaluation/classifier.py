"""torchvision classifiers with a stem for small images: built, run, written and read."""

from dataclasses import asdict
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.model import ImageConfig
from flowquant.data.pixels import to_unit
from flowquant.models.model import check_finite
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import read_tensors, write_tensors


def build_classifier(config: ArchitectureConfig) -> nn.Module:
    """A classifier with random weights: images [B, C, H, W] in −1…1 → logits [B, classes].

    Images under 64 pixels lose the stem's reductions: the first convolution becomes 3×3 with
    stride 1, a max-pool after it is removed, as is usual for CIFAR-sized images.

    Raises:
        UserError: if torchvision has no such model, or it does not take such images.
    """
    try:
        network = torchvision.models.get_model(
            config.name, weights=None, num_classes=config.classes
        )
    except ValueError as error:
        raise UserError(
            "classifier.architecture",
            found=f"'{config.name}'",
            expected="the name of a torchvision classification model, e.g. resnet18",
            remedy="torchvision.models.list_models() lists them.",
        ) from error
    _fit_stem(network, config.image)
    return network


def _fit_stem(network: nn.Module, image: ImageConfig) -> None:
    """Replace the first convolution by one for the image's channels and size."""
    small = image.size < 64
    name, stem = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    fitted = nn.Conv2d(
        image.channels,
        stem.out_channels,
        kernel_size=3 if small else stem.kernel_size,  # type: ignore[arg-type]
        stride=1 if small else stem.stride,  # type: ignore[arg-type]
        padding=1 if small else stem.padding,  # type: ignore[arg-type]
        bias=stem.bias is not None,
    )
    parent, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(parent), leaf, fitted)
    if small and isinstance(getattr(network, "maxpool", None), nn.MaxPool2d):
        network.maxpool = nn.Identity()


def classify(network: nn.Module, images: Tensor) -> Tensor:
    """Logits [B, classes] for uint8 images [B, C, H, W], at the size they have."""
    logits: Tensor = network(to_unit(images))
    return logits


@torch.inference_mode()
def predict(network: nn.Module, images: Tensor, device: torch.device, batch: int = 512) -> Tensor:
    """The likeliest class of each image uint8 [N, C, H, W], int64 [N] on the CPU.

    The network is on the device, in evaluation mode; it takes ``batch`` images at a time.
    """
    parts = images.split(batch)
    return torch.cat([classify(network, part.to(device)).argmax(1).cpu() for part in parts])


def penultimate(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Input [B, F] and output, the logits [B, classes], of a classifier's last linear layer.

    Images are uint8 [B, C, H, W].
    """
    *_, last = (module for module in network.modules() if isinstance(module, nn.Linear))
    seen: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        logits = classify(network, images)
    finally:
        hook.remove()
    return seen[0], logits


def write_classifier(path: Path, network: nn.Module, config: ArchitectureConfig) -> None:
    """Write a classifier's weights and architecture.

    Raises:
        UserError: if a weight is NaN or infinite.
    """
    weights = network.state_dict()
    check_finite(path, weights)
    write_tensors(path, weights, {"architecture": asdict(config)})


def read_classifier(path: Path) -> tuple[nn.Module, ArchitectureConfig]:
    """The classifier of a file, in evaluation mode, without gradients.

    Raises:
        UserError: if the file is unreadable or no classifier.
    """
    weights, metadata = read_tensors(path)
    if "architecture" not in metadata:
        raise UserError(
            path,
            found="tensors without an architecture",
            expected="a file written by `classifier`",
            remedy="Delete the file and run the workflow again.",
        )
    content = metadata["architecture"]
    config = ArchitectureConfig(
        name=content["name"], image=ImageConfig(**content["image"]), classes=content["classes"]
    )
    with torch.device("meta"):
        network = build_classifier(config)
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False), config
