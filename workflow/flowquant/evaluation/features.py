"""Features of images for FID and other metrics: by which network, read from where, kept how."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from tqdm import tqdm

from flowquant.config.extractors import PUBLISHED, ExtractorName
from flowquant.evaluation.classifier import ClassifierFeatures
from flowquant.evaluation.clip import ClipFeatures
from flowquant.evaluation.dinov2 import DinoFeatures
from flowquant.evaluation.efficientnet import EfficientNetFeatures
from flowquant.evaluation.inception import inception
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import sha256
from flowquant.runtime.header import Kind
from flowquant.runtime.tensors import read_file, write_tensors

# What makes a network of a file of weights: images uint8 [B, 3, H, W] → features [B, F], and
# logits [B, classes] if it classifies.
EXTRACTORS: dict[ExtractorName, Callable[[Path], nn.Module]] = {
    "inception-v3-compat": inception,
    "dinov2-vit-s-14": partial(DinoFeatures, network="vit_small_patch14_dinov2"),
    "dinov2-vit-b-14": partial(DinoFeatures, network="vit_base_patch14_dinov2"),
    "dinov2-vit-l-14": partial(DinoFeatures, network="vit_large_patch14_dinov2"),
    "clip-vit-b-32": ClipFeatures,
    "clip-vit-b-16": ClipFeatures,
    "clip-vit-l-14": ClipFeatures,
    "efficientnet-lite0": EfficientNetFeatures,
    "classifier": ClassifierFeatures,
}

# Images at a time. Public networks enlarge them to 224 pixels and more: of these a CPU's caches
# hold few, and EfficientNet takes half the time that it takes of batches of 64.
MANY, FEW = 256, 8


def extract(
    images: Tensor,
    extractor: ExtractorName,
    weights: Path,
    device: torch.device,
    batch: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Features [N, F] and logits [N, classes] of images uint8 [N, C, H, W], float32 on the CPU.

    C is 1 or 3. The weights are the extractor's; one that does not classify has no logits.

    Raises:
        UserError: if the weights are unreadable, a classifier's of other images, or give features
            that are no numbers; or if the extractor asks for a package that is not installed.
    """
    return features_by(load_extractor(extractor, weights, device), images, weights, device, batch)


def features_by(
    network: nn.Module,
    images: Tensor,
    weights: Path,
    device: torch.device,
    batch: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """What `extract` returns, by a network that was loaded from the weights."""
    if batch is None:
        small = device.type == "cpu" and not isinstance(network, ClassifierFeatures)
        batch = FEW if small else MANY
    found = run_extractor(network, images, device, batch)
    if not all(part is None or bool(part.isfinite().all()) for part in found):
        raise UserError(
            weights,
            found="NaN or infinite features of some images",
            expected="weights of a network that has learned",
            remedy="Train the classifier anew with a lower `classifier.learning_rate`, or name "
            "other weights under `evaluation.weights`.",
        )
    return found


def load_extractor(extractor: ExtractorName, weights: Path, device: torch.device) -> nn.Module:
    """The network for `run_extractor`; raises as `extract` does."""
    try:
        network = EXTRACTORS[extractor](weights)
    except UserError:
        raise
    except ImportError as error:
        assert extractor != "classifier"
        raise UserError(
            f"configuration key `evaluation.extractors`: {extractor}",
            found=f"no package {error.name}",
            expected="it to be installed",
            remedy=f"Install it: `{PUBLISHED[extractor].install}`.",
        ) from error
    except Exception as error:  # whatever other weights make of a network
        assert extractor != "classifier"
        raise UserError(
            weights,
            found=f"no plain weights of {extractor} ({type(error).__name__})",
            expected=f"the published {PUBLISHED[extractor].file}",
            remedy="Delete the file to have it fetched again, or name the right one under "
            f"`evaluation.weights.{extractor}.path`.",
        ) from error
    return network.eval().requires_grad_(False).to(device)


@torch.inference_mode()
def run_extractor(
    network: nn.Module, images: Tensor, device: torch.device, batch: int, verbose: bool = True
) -> tuple[Tensor, Tensor | None]:
    """What `extract` returns, by a network of `load_extractor`.

    Raises:
        UserError: if the network is a classifier of other images.
    """
    if isinstance(network, ClassifierFeatures):
        network.check_sees(images)
    seen = [
        [found.float().cpu() for found in network(part.to(device).expand(-1, 3, -1, -1))]
        for part in tqdm(images.split(batch), desc="features", disable=not verbose)
    ]
    features, *logits = (torch.cat(parts) for parts in zip(*seen, strict=True))
    return features, logits[0] if logits else None


@dataclass(frozen=True)
class FeaturesMetadata:
    """Which network's features a file holds, and how far a neighbourhood reaches."""

    extractor: ExtractorName
    weights_sha256: str
    neighbours: Annotated[int, Field(ge=1)]


FEATURES = Kind(
    "file of features",
    "`real_features`",
    FeaturesMetadata,
    {"features": "float32 [N, F]", "radii": "float64 [N]"},
)


@dataclass(frozen=True)
class RealFeatures:
    """What `real_features` wrote: features of real images, float32 [M, F].

    ``radii`` are the distances of each to its ``neighbours``-th nearest other one, float64 [M];
    ``digest`` is the SHA-256 of the extractor's weights.
    """

    features: Tensor
    radii: Tensor
    neighbours: int
    digest: str


def write_features(
    path: Path,
    features: Tensor,
    radii: Tensor,
    extractor: ExtractorName,
    weights: Path,
    neighbours: int,
) -> None:
    """Write what `RealFeatures` holds; the ``weights`` are the extractor's."""
    metadata = FeaturesMetadata(extractor, sha256(weights), neighbours)
    write_tensors(path, {"features": features, "radii": radii}, asdict(metadata), FEATURES)


def read_features(path: Path, extractor: ExtractorName, weights: Path) -> RealFeatures:
    """Read what `write_features` wrote.

    Raises:
        UserError: if the file is unreadable, or its features come from another network or weights.
    """
    content, digest = read_file(path, FEATURES), sha256(weights)
    made = content.described
    if (made.extractor, made.weights_sha256) != (extractor, digest):
        raise UserError(
            path,
            found=f"features by {made.extractor} with weights {made.weights_sha256}",
            expected=f"features by {extractor} with weights {digest}, those of {weights}",
            remedy="Delete the file and run the workflow again.",
        )
    tensors = content.tensors
    if made.neighbours >= len(tensors["features"]):
        raise UserError(
            path,
            found=f"{made.neighbours} neighbours among {len(tensors['features'])} features",
            expected="fewer than there are",
            remedy="Use more test images, or fewer `evaluation.neighbours`.",
        )
    return RealFeatures(tensors["features"], tensors["radii"], made.neighbours, digest)


def check_comparable(path: Path, real: RealFeatures, features: Tensor) -> None:
    """Refuse to compare real features with those [N, F] of another network.

    Raises:
        UserError: naming the file of real features, ``path``.
    """
    if real.features.shape[1] != features.shape[1]:
        raise UserError(
            path,
            found=f"features of {real.features.shape[1]} numbers",
            expected=f"features of {features.shape[1]}, as the extractor gives them",
            remedy=FEATURES.remedy,
        )
