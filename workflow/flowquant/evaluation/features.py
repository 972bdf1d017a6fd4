"""Features of images for FID, KID, precision and recall, extracted through torch-fidelity."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import register_feature_extractor
from torch_fidelity.utils import create_feature_extractor, get_featuresdict_from_dataset

from flowquant.config.evaluation import ExtractorName
from flowquant.evaluation.classifier import penultimate, read_classifier
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import sha256
from flowquant.runtime.tensors import read_tensors

# Which of an extractor's outputs are the features, and which the logits of the Inception Score.
OUTPUTS: dict[ExtractorName, tuple[str, str]] = {
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
        self.network, config = read_classifier(Path(feature_extractor_weights_path))
        self.channels = config.image.channels

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
        found = penultimate(self.network, images[:, : self.channels])
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

    C is 1 or 3. The weights are a classifier file, or torch-fidelity's Inception weights.

    Raises:
        UserError: if the weights are unreadable, or give features that are no numbers.
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
    if extractor == "inception-v3-compat":
        _check_plain_weights(weights)
    return create_feature_extractor(
        extractor,
        list(OUTPUTS[extractor]),
        cuda=device.type == "cuda",
        feature_extractor_weights_path=str(weights),
        verbose=False,
    )


def run_extractor(
    network: FeatureExtractorBase,
    images: Tensor,
    device: torch.device,
    batch: int,
    verbose: bool = True,
) -> tuple[Tensor, Tensor]:
    """What `extract` returns, by a network of `load_extractor`."""
    rgb, on_gpu = _RgbImages(images), device.type == "cuda"
    # `save_cpu_ram` means: no worker processes; the images are in memory already.
    found = get_featuresdict_from_dataset(
        rgb, network, batch, on_gpu, save_cpu_ram=True, verbose=verbose
    )
    features, logits = (found[name].float() for name in network.features_list)
    return features, logits


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


def read_features(path: Path, weights: Path) -> RealFeatures:
    """Read what `real_features` wrote.

    Raises:
        UserError: if the file is unreadable, or its features come from other weights.
    """
    tensors, metadata = read_tensors(path)
    digest = sha256(weights)
    if metadata.get("weights_sha256") != digest:
        raise UserError(
            path,
            found=f"features by weights {metadata.get('weights_sha256')}",
            expected=f"features by {weights} ({digest})",
            remedy="Delete the file and run the workflow again.",
        )
    return RealFeatures(tensors["features"], tensors["radii"], metadata["neighbours"], digest)


def _check_plain_weights(path: Path) -> None:
    """Refuse a file that executes code: torch-fidelity unpickles it without restriction."""
    try:
        torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise UserError(
            path,
            found=f"no plain weights ({type(error).__name__})",
            expected="torch-fidelity's weights-inception-2015-12-05-6726825d.pth",
            remedy="Delete the file to have it downloaded, or name the right one under "
            "`evaluation.weights.path`.",
        ) from error
