"""Features of images for FID, KID, precision and recall, extracted through torch-fidelity."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import register_feature_extractor
from torch_fidelity.utils import create_feature_extractor, get_featuresdict_from_dataset

from flowquant.config.evaluation import ExtractorName
from flowquant.evaluation import efficientnet
from flowquant.evaluation.classifier import check_sees, penultimate, read_classifier
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import sha256
from flowquant.runtime.header import Kind
from flowquant.runtime.tensors import read_file, write_tensors

# Which of an extractor's outputs are the features, and which the logits of the Inception Score.
OUTPUTS: dict[ExtractorName, tuple[str, str]] = {
    "efficientnet-lite0": efficientnet.OUTPUTS,
    "inception-v3-compat": ("2048", "logits_unbiased"),
    "classifier": ("penultimate", "logits"),
}


class ClassifierFeatures(FeatureExtractorBase):  # type: ignore[misc]
    """The dataset's own classifier as a torch-fidelity feature extractor."""

    def __init__(
        self,
        name: str,
        features_list: list[str],
        feature_extractor_weights_path: str = "",
        **_: object,
    ) -> None:
        super().__init__(name, features_list)
        self.path = Path(feature_extractor_weights_path)
        self.network, self.config = read_classifier(self.path)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return OUTPUTS["classifier"]

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        features, logits = OUTPUTS["classifier"]
        return logits if metric == "isc" else features

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 [B, 3, H, W] → the requested of (penultimate [B, F], logits [B, classes])."""
        found = penultimate(self.network, images[:, : self.config.image.channels])
        by_name = dict(zip(self.get_provided_features_list(), found, strict=True))
        return tuple(by_name[name] for name in self.features_list)


register_feature_extractor("classifier", ClassifierFeatures)


class _RgbImages(Dataset[Tensor]):
    """Images uint8 [N, C, H, W], one by one as uint8 [3, H, W], as torch-fidelity takes them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index].expand(3, -1, -1)


def extract(
    images: Tensor, extractor: ExtractorName, weights: Path, device: torch.device, batch: int = 256
) -> tuple[Tensor, Tensor]:
    """Features [N, F] and logits [N, classes] of images uint8 [N, C, H, W], float32 on the CPU.

    C is 1 or 3. The weights are a classifier file, or those of Inception or EfficientNet.

    Raises:
        UserError: if the weights are unreadable, a classifier's of other images, or give features
            that are no numbers.
    """
    network = load_extractor(extractor, weights, device)
    features, logits = run_extractor(network, images, device, batch)
    if not bool(features.isfinite().all() and logits.isfinite().all()):
        raise UserError(
            weights,
            found="NaN or infinite features of some images",
            expected="weights of a network that has learned",
            remedy="Train the classifier anew with a lower `classifier.learning_rate`, or name "
            "other weights under `evaluation.weights.path`.",
        )
    return features, logits


def load_extractor(
    extractor: ExtractorName, weights: Path, device: torch.device
) -> FeatureExtractorBase:
    """The network for `run_extractor`; raises as `extract` does."""
    try:
        if extractor == "inception-v3-compat":
            # Nothing that executes code: torch-fidelity unpickles it without restriction.
            torch.load(weights, weights_only=True, map_location="cpu")
        return create_feature_extractor(
            extractor,
            list(OUTPUTS[extractor]),
            cuda=device.type == "cuda",
            feature_extractor_weights_path=str(weights),
            verbose=False,
        )
    except UserError:
        raise
    except Exception as error:  # whatever other weights make of a network
        raise UserError(
            weights,
            found=f"no plain weights of {extractor} ({type(error).__name__})",
            expected="torch-fidelity's weights-inception-2015-12-05-6726825d.pth",
            remedy="Delete the file to have it downloaded, or name the right one under "
            "`evaluation.weights`.",
        ) from error


def run_extractor(
    network: FeatureExtractorBase,
    images: Tensor,
    device: torch.device,
    batch: int,
    verbose: bool = True,
) -> tuple[Tensor, Tensor]:
    """What `extract` returns, by a network of `load_extractor`.

    Raises:
        UserError: if the network is a classifier of other images.
    """
    if isinstance(network, ClassifierFeatures):
        check_sees(network.path, network.config, images)
    rgb, on_gpu = _RgbImages(images), device.type == "cuda"
    # `save_cpu_ram` means: no worker processes; the images are in memory already.
    found = get_featuresdict_from_dataset(
        rgb, network, batch, on_gpu, save_cpu_ram=True, verbose=verbose
    )
    features, logits = (found[name].float() for name in network.features_list)
    return features, logits


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
