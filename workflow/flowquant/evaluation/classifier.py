"""torchvision classifiers with a stem for small images: built, run, written and read."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.model import ImageConfig
from flowquant.data.pixels import to_unit
from flowquant.runtime.errors import UserError
from flowquant.runtime.header import Kind
from flowquant.runtime.tensors import (
    check_finite,
    check_tensors,
    forms_of,
    read_file,
    write_tensors,
)


@dataclass(frozen=True)
class ClassifierMetadata:
    """What a classifier file must say besides its weights."""

    architecture: ArchitectureConfig


CLASSIFIER = Kind("classifier", "`classifier`", ClassifierMetadata)


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
    check_finite(path, weights, "Lower `classifier.learning_rate`, and train again.")
    write_tensors(path, weights, {"architecture": asdict(config)}, CLASSIFIER)


def read_classifier(path: Path) -> tuple[nn.Module, ArchitectureConfig]:
    """The classifier of a file, in evaluation mode, without gradients.

    Raises:
        UserError: if the file is unreadable or no classifier, or has other weights than its
            architecture or some that are not finite.
    """
    content = read_file(path, CLASSIFIER)
    config, weights = content.described.architecture, content.tensors
    try:
        with torch.device("meta"):
            network = build_classifier(config)
    except Exception as error:  # whatever torchvision raises for what it cannot build
        raise UserError(
            path,
            found=f"an impossible classifier ({str(error).partition(chr(10))[0]})",
            expected=CLASSIFIER.described,
            remedy=CLASSIFIER.remedy,
        ) from error
    expected = "the weights of its architecture"
    check_tensors(path, weights, forms_of(network), expected, CLASSIFIER.remedy)
    check_finite(path, weights, CLASSIFIER.remedy)
    network.load_state_dict(weights, assign=True)
    return network.eval().requires_grad_(False), config


class ClassifierFeatures(nn.Module):
    """A dataset's own classifier as an extractor: features [B, F] and logits [B, classes].

    Raises:
        UserError: as `read_classifier`.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.network, self.config = read_classifier(path)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [B, 3, H, W], grey ones thrice the same → features and logits."""
        return penultimate(self.network, images[:, : self.config.image.channels])


def check_sees(path: Path, config: ArchitectureConfig, images: Tensor) -> None:
    """Check that a classifier was made for such images, uint8 [N, C, H, W].

    Raises:
        UserError: naming the file of the classifier, ``path``.
    """
    made_for = [config.image.channels, config.image.size, config.image.size]
    if list(images.shape[1:]) != made_for:
        raise UserError(
            path,
            found=f"a classifier of images {made_for}, channels, height and width",
            expected=f"one of images {list(images.shape[1:])}",
            remedy="Name the classifier of the samples' own dataset and preset.",
        )


def check_judges(path: Path, config: ArchitectureConfig, labels: Tensor) -> None:
    """Check that a classifier can say whether images have their labels, int64 [N].

    Raises:
        UserError: naming the file of the classifier, ``path``, if the labels are no classes, or
            others than the classifier's.
    """
    is_class = labels.dim() == 1
    if not is_class or not 0 <= int(labels.min()) <= int(labels.max()) < config.classes:
        raise UserError(
            path,
            found=f"a classifier of {config.classes} classes",
            expected=f"one that knows the labels {int(labels.min())} to {int(labels.max())}"
            if is_class
            else "one of classes; but the samples have attributes",
            remedy="Name the classifier of the samples' own dataset and preset.",
        )
