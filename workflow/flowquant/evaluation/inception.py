"""torch-fidelity's Inception, of which most published FIDs are."""

from pathlib import Path

import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3


def inception(path: Path) -> FeatureExtractorInceptionV3:
    """Features [B, 2048] and unbiased logits [B, 1008] of images uint8 [B, 3, H, W]."""
    # Nothing that executes code: torch-fidelity unpickles it without restriction.
    torch.load(path, weights_only=True, map_location="cpu")
    return FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits_unbiased"], str(path)
    )
