"""DINOv2 (Oquab et al., 2023), as torch-fidelity shows it images.

torch-fidelity downloads the network's code when it runs; here it is timm's, an optional package,
with the weights as they are published.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

# A side of an image, in patches of 14 pixels.
PATCHES = FeatureExtractorDinoV2.INPUT_IMAGE_SIZE // 14
# Theirs adds it to the side that positions are scaled to.
OFFSET = 0.1


class DinoFeatures(FeatureExtractorDinoV2):  # type: ignore[misc]
    """Class tokens [B, F] after the last norm, of images uint8 [B, 3, H, W]; there are no logits.

    Args:
        path: Published weights.
        network: timm's name of their network.

    Raises:
        ImportError: if timm is not installed.
    """

    def __init__(self, path: Path, network: str) -> None:
        FeatureExtractorBase.__init__(self, "dinov2", ["dinov2"])
        import timm

        self.feature_extractor_internal_dtype = torch.float32
        self.model = timm.create_model(
            network, pretrained=False, img_size=self.INPUT_IMAGE_SIZE, num_classes=0
        )
        weights = torch.load(path, map_location="cpu", weights_only=True)
        del weights["mask_token"]  # of training alone
        weights["pos_embed"] = positions(weights["pos_embed"])
        self.model.load_state_dict(weights)


def positions(embedding: Tensor) -> Tensor:
    """Embeddings of positions, [1, 1 + P², F] with the class token first, for as many patches as
    images have here: resized as DINOv2's own code does it."""
    of_class, of_patches = embedding[:, :1], embedding[:, 1:]
    side = round(of_patches.shape[1] ** 0.5)
    grid = of_patches.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    scale = (PATCHES + OFFSET) / side
    resized = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([of_class, resized.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
