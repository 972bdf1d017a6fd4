"""The baseline does the same work as this project, with the same results."""

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from flowquant.benchmark.baseline import (
    BaselineTraining,
    Pictures,
    baseline_network,
    features_of_one,
    quantize_all_by_ranks,
    sample_one,
)
from flowquant.config.model import ConditionConfig, FlowConfig, ModelConfig
from flowquant.config.sampling import SolverConfig
from flowquant.config.training import TrainingConfig
from flowquant.data.dataset import Split
from flowquant.data.pixels import to_unit
from flowquant.models.model import build_network, load_network
from flowquant.quantization.levels import equal_mass
from flowquant.sampling.sampler import Sampler
from tiny import TINY_NETWORK

CPU = torch.device("cpu")
TRAINING = TrainingConfig(
    epochs=1,
    batch=8,
    learning_rate=1e-3,
    weight_decay=0.01,
    schedule="cosine",
    warmup_epochs=0,
    halve_after=3,
    stop_after=10,
    clip=1.0,
    validation=8,
    condition_dropout=0.0,
    ema=None,
    precision="float32",
)


@pytest.mark.parametrize("clock", ["forward", "backward"])
def test_samples_agree_from_the_same_noise(
    tiny_model: ModelConfig, clock: Literal["forward", "backward"]
) -> None:
    model = replace(tiny_model, flow=FlowConfig(clock=clock, sigma=0.5))
    torch.manual_seed(0)
    weights = build_network(model).state_dict()
    noise, labels = torch.randn(3, 1, 8, 8), torch.arange(3)
    sampler = Sampler(load_network(weights, model), model.flow, SolverConfig(steps=6), CPU)
    together = sampler(noise, labels).clamp(-1, 1)
    network = baseline_network(model)
    network.load_state_dict(weights)
    network.eval()
    for x, label, expected in zip(noise.split(1), labels.split(1), together.split(1), strict=True):
        found = sample_one(network, model.flow, x, label, steps=6)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 8, 16])
def test_levels_agree(bits: int) -> None:
    draws = torch.Generator().manual_seed(0)
    values = torch.randn(30, 41, generator=draws)
    levels, indices = equal_mass(values.view(1, -1), 2**bits)
    found = quantize_all_by_ranks({"weight": values}, bits)["weight"]
    assert found.shape == values.shape
    torch.testing.assert_close(found.flatten(), levels[0][indices[0].long()], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_the_images(channels: int) -> None:
    images = torch.randint(256, (4, channels, 8, 8), dtype=torch.uint8)
    pictures = Pictures(Split(images, torch.arange(4)))
    found = torch.stack([pictures[index][0] for index in range(len(pictures))])
    torch.testing.assert_close(found, to_unit(images))
    assert pictures[2][1] == 2


@pytest.mark.parametrize("kind", ["class", "attributes"])
def test_a_step_learns(tiny_model: ModelConfig, kind: Literal["class", "attributes"]) -> None:
    condition = ConditionConfig(kind=kind, count=3)
    network = replace(TINY_NETWORK, condition="linear", dropout=0.0)
    model = replace(tiny_model, condition=condition, network=network)
    images = torch.randint(256, (16, 1, 8, 8), dtype=torch.uint8)
    labels = torch.randint(2, (16, 3), dtype=torch.uint8)
    split = Split(images, labels if kind == "attributes" else labels[:, 0].long())
    torch.manual_seed(0)
    training = BaselineTraining(model, TRAINING, split, CPU)
    losses = [training.step() for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])


def test_features_of_one_image() -> None:
    class Sums(torch.nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images.float().sum((2, 3)), images

    image = torch.full((1, 4, 4), 2, dtype=torch.uint8)
    assert features_of_one(Sums(), image, CPU).tolist() == [[32.0, 32.0, 32.0]]
