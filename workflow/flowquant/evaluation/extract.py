"""Features of images for FID and other metrics: by which network, read from where."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from flowquant.config.extractors import PUBLISHED, ExtractorName
from flowquant.evaluation.classifier import ClassifierFeatures, check_sees
from flowquant.evaluation.clip import ClipFeatures
from flowquant.evaluation.dinov2 import DinoFeatures
from flowquant.evaluation.efficientnet import EfficientNetFeatures
from flowquant.evaluation.inception import inception
from flowquant.runtime.errors import UserError

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
    network = load_extractor(extractor, weights, device)
    if batch is None:
        batch = FEW if device.type == "cpu" and extractor != "classifier" else MANY
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
        check_sees(network.path, network.config, images)
    seen = [
        [found.float().cpu() for found in network(part.to(device).expand(-1, 3, -1, -1))]
        for part in tqdm(images.split(batch), desc="features", disable=not verbose)
    ]
    features, *logits = (torch.cat(parts) for parts in zip(*seen, strict=True))
    return features, logits[0] if logits else None
