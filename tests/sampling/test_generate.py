"""What generating refuses."""

from __future__ import annotations

import pytest
import torch

from flowquant.config.model import ModelConfig
from flowquant.config.sampling import SolverConfig
from flowquant.models.model import build_network
from flowquant.runtime.errors import UserError
from flowquant.sampling.generate import generate


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_pixels_that_are_no_numbers_are_no_images(tiny_model: ModelConfig, bad: float) -> None:
    network = build_network(tiny_model).eval()
    weights = network.state_dict()
    weights["out_proj.bias"][0] = bad
    network.load_state_dict(weights)
    labels, solver = torch.tensor([0, 1]), SolverConfig(steps=2)
    with pytest.raises(UserError, match="found NaN or infinite pixels"):
        generate(network, tiny_model, labels, solver, 0, 2, torch.device("cpu"))
