"""CLIP's image half, on random weights: the published ones cannot be had in a test."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_clip import CLIPVisual

from flowquant.evaluation.extract import extract
from flowquant.runtime.errors import UserError

CPU = torch.device("cpu")
EMBEDDING, SIDE, PATCH = 6, 16, 8


class Clip(nn.Module):
    """What of CLIP matters: the image half, and the projection of texts, which tells a size."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = CLIPVisual(EMBEDDING, SIDE, 2, 64, PATCH).visual
        self.text_projection = nn.Parameter(torch.zeros(3, EMBEDDING))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.visual(x)
        return found


@pytest.fixture
def network() -> Clip:
    torch.manual_seed(0)
    # Published in half precision, in which torch-fidelity keeps what it multiplies by.
    return Clip().half().float().eval()


@pytest.mark.parametrize("scripted", [True, False], ids=["TorchScript", "state dict"])
def test_it_sees_what_the_network_sees(network: Clip, tmp_path: Path, scripted: bool) -> None:
    path = tmp_path / "weights.pt"
    if scripted:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is on its way out
            torch.jit.save(torch.jit.trace(network, torch.rand(1, 3, SIDE, SIDE)), path)
    else:
        torch.save(network.state_dict(), path)
    # As large as it looks at, so that nothing is resized.
    images = torch.randint(256, (3, 3, SIDE, SIDE)).to(torch.uint8)
    features, logits = extract(images, "clip-vit-b-32", path, CPU, batch=2)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    with torch.no_grad():
        wanted = network((images / 255 - mean) / deviation)
    assert logits is None
    torch.testing.assert_close(features, wanted, atol=1e-4, rtol=1e-4)


def test_weights_that_are_not_its_own(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, tmp_path / "weights.pt")
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"no plain weights of clip-vit-l-14.*ViT-L-14\.pt"):
        extract(images, "clip-vit-l-14", tmp_path / "weights.pt", CPU)
