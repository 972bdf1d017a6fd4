"""The published way does the same work as this project, and finds the same."""

from dataclasses import replace

import pytest
import torch

from flowquant.benchmark.baseline import (
    Pictures,
    UsualTraining,
    look_at_one,
    quantize_all_by_ranks,
    sample_one,
    usual_network,
)
from flowquant.config.model import ConditionConfig, FlowConfig
from flowquant.config.sampling import SolverConfig
from flowquant.config.training import TrainingConfig
from flowquant.data.dataset import Split
from flowquant.data.pixels import to_unit
from flowquant.models.model import build_network, load_network
from flowquant.quantization.levels import equal_mass
from flowquant.sampling.sampler import Sampler

CPU = torch.device("cpu")
TRAINING = TrainingConfig(1, 8, 1e-3, 0.01, "cosine", 0, 3, 10, 1.0, 8, 0.0, None, "float32")


@pytest.mark.parametrize("clock", ["forward", "backward"])
def test_samples_agree_from_the_same_noise(tiny_model, clock):
    model = replace(tiny_model, flow=FlowConfig(clock, 0.5))
    torch.manual_seed(0)
    weights = build_network(model).state_dict()
    noise, labels = torch.randn(3, 1, 8, 8), torch.arange(3)
    sampler = Sampler(load_network(weights, model), model.flow, SolverConfig(steps=6), CPU)
    together = sampler(noise, labels).clamp(-1, 1)
    network = usual_network(model)
    network.load_state_dict(weights)
    network.eval()
    for x, label, expected in zip(noise.split(1), labels.split(1), together.split(1), strict=True):
        found = sample_one(network, model.flow, x, label, steps=6)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [1, 2, 8, 16])
def test_levels_agree(bits):
    draws = torch.Generator().manual_seed(0)
    values = torch.randn(30, 41, generator=draws)
    levels, indices = equal_mass(values.view(1, -1), 2**bits)
    found = quantize_all_by_ranks({"weight": values}, bits)["weight"]
    assert found.shape == values.shape
    torch.testing.assert_close(found.flatten(), levels[0][indices[0].long()], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_the_images(channels):
    images = torch.randint(256, (4, channels, 8, 8), dtype=torch.uint8)
    pictures = Pictures(Split(images, torch.arange(4)))
    found = torch.stack([pictures[index][0] for index in range(len(pictures))])
    torch.testing.assert_close(found, to_unit(images))
    assert pictures[2][1] == 2


@pytest.mark.parametrize("kind", ["class", "attributes"])
def test_a_step_learns(tiny_model, kind):
    condition = ConditionConfig(kind, 3)
    network = replace(tiny_model.network, condition="linear", dropout=0.0)
    model = replace(tiny_model, condition=condition, network=network)
    images = torch.randint(256, (16, 1, 8, 8), dtype=torch.uint8)
    labels = torch.randint(2, (16, 3), dtype=torch.uint8)
    split = Split(images, labels if kind == "attributes" else labels[:, 0].long())
    torch.manual_seed(0)
    training = UsualTraining(model, TRAINING, split, CPU)
    losses = [training.step() for _ in range(60)]
    assert sum(losses[-10:]) < sum(losses[:10])


def test_features_of_one_image():
    class Sums(torch.nn.Module):
        def forward(self, images):
            return images.float().sum((2, 3)), images

    image = torch.full((1, 4, 4), 2, dtype=torch.uint8)
    assert look_at_one(Sums(), image, CPU).tolist() == [[32.0, 32.0, 32.0]]
