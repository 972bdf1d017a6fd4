"""The image half of OpenAI's CLIP (Radford et al., 2021), as torch-fidelity shows it images."""

from pathlib import Path

import torch
from torch_fidelity.feature_extractor_base import FeatureExtractorBase
from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP, build_model

from flowquant.evaluation.torchscript import is_torchscript, read_torchscript


class ClipFeatures(FeatureExtractorCLIP):  # type: ignore[misc]
    """Embeddings [B, E] of images uint8 [B, 3, H, W]; there are no logits.

    The published files are TorchScript, which torch-fidelity would load with its code; here only
    the tensors are read, of such a file or of a state dict.
    """

    def __init__(self, path: Path) -> None:
        FeatureExtractorBase.__init__(self, "clip", ["clip"])
        self.feature_extractor_internal_dtype = torch.float32
        weights = (
            read_torchscript(path)
            if is_torchscript(path)
            else torch.load(path, map_location="cpu", weights_only=True)
        )
        self.model = build_model(dict(weights), torch.float32)
        self.resolution = self.model.visual.input_resolution
