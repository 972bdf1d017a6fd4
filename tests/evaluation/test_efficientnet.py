"""EfficientNet-Lite0: real weights see what is in a photograph; what is missing is said."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import EfficientNet_B0_Weights

from flowquant.evaluation.extract import extract
from flowquant.runtime.errors import UserError
from flowquant.stages.extractor_weights import extractor_weights

CPU = torch.device("cpu")
NONE = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)


def test_it_sees_what_is_in_a_photograph(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="an optional extractor")
    from skimage import data

    weights = tmp_path / "weights.pth"
    extractor_weights("efficientnet-lite0", weights)
    # The middle of a photograph of a cat, every second pixel: its own size does not matter.
    cat = torch.from_numpy(np.ascontiguousarray(data.chelsea()[::2, 75:375:2]))
    features, logits = extract(
        cat.permute(2, 0, 1)[None].repeat(2, 1, 1, 1), "efficientnet-lite0", weights, CPU
    )
    assert features.shape == (2, 1280)
    assert logits is not None
    names = EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"]
    assert {names[index] for index in logits[0].topk(2).indices} <= {
        *("Egyptian cat", "tiger cat", "tabby")
    }


def test_weights_that_are_not_its_own(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="an optional extractor")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="no plain weights of efficientnet-lite0"):
        extract(NONE, "efficientnet-lite0", tmp_path / "weights.pth", CPU)


def test_a_package_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UserError, match=r"efficientnet_lite_pytorch.*-efficientnet\.txt"):
        extract(NONE, "efficientnet-lite0", tmp_path / "weights.pth", CPU)
