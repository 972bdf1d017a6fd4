"""The path, its loss, its noise, its clocks and guidance, against closed forms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flowquant.config.model import ConditionConfig, FlowConfig, ModelConfig
from flowquant.data.pixels import to_uint8, to_unit
from flowquant.models.model import build_network
from flowquant.models.path import (
    guided_velocity,
    initial_noise,
    interpolate,
    matching_loss,
    velocity,
)
from flowquant.models.solver import solve
from flowquant.runtime import random
from tiny import TINY_NETWORK

FORWARD = FlowConfig(clock="forward", sigma=0.5)
BACKWARD = FlowConfig(clock="backward", sigma=0.5)
NO_CLASS = torch.empty(0)


class Clock(nn.Module):
    """Answers with the time it was given."""

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        return time.view(-1, 1, 1, 1).expand_as(x)


def test_scaling_is_exact_at_every_grey_value() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_unit(values)), values)
    assert to_unit(values).min() == -1
    assert to_unit(values).max() == 1


def test_scaling_clamps_and_rounds() -> None:
    assert to_uint8(torch.tensor([-3.0, 3.0, 0.0])).tolist() == [0, 255, 128]
    # 0.6 of a grey value above 100: truncation would give 100.
    assert to_uint8(torch.tensor([100.6 / 127.5 - 1])).item() == 101


def test_path_ends_at_noise_and_image() -> None:
    noise, image = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    t = torch.tensor([0.0, 1.0, 0.25])
    x = interpolate(noise, image, t)
    assert torch.equal(x[0], noise[0])
    assert torch.equal(x[1], image[1])
    torch.testing.assert_close(x[2], 0.75 * noise[2] + 0.25 * image[2])


def test_clocks_tell_opposite_times() -> None:
    x, t = torch.zeros(2, 1, 2, 2), torch.tensor([0.1, 0.7])
    times = [velocity(Clock(), flow, x, t, NO_CLASS)[:, 0, 0, 0] for flow in (FORWARD, BACKWARD)]
    torch.testing.assert_close(times[0], t)
    torch.testing.assert_close(times[1], 1 - t)


def test_loss_of_a_constant_velocity() -> None:
    class Zero(nn.Module):
        def forward(
            self, x: Tensor, time: Tensor, condition: Tensor, kept: Tensor | None = None
        ) -> Tensor:
            return torch.zeros_like(x)

    image, noise = torch.full((4, 1, 2, 2), 0.75), torch.full((4, 1, 2, 2), -0.25)
    loss = matching_loss(Zero(), FORWARD, image, noise, torch.rand(4), NO_CLASS)
    assert loss.item() == pytest.approx(1.0)


def test_noise_does_not_depend_on_the_batch() -> None:
    whole = initial_noise(FORWARD, 7, range(10), (1, 4, 4))
    parts = [
        initial_noise(FORWARD, 7, range(a, b), (1, 4, 4)) for a, b in [(0, 3), (3, 4), (4, 10)]
    ]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(initial_noise(FORWARD, 7, range(9, 10), (1, 4, 4))[0], whole[9])


def test_noise_depends_on_seed_and_index_and_has_the_right_spread() -> None:
    noise = initial_noise(FORWARD, 0, range(200), (1, 16, 16))
    other = initial_noise(FORWARD, 1, range(200), (1, 16, 16))
    assert noise.std().item() == pytest.approx(0.5, rel=0.02)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.01)
    # Independent streams: no correlation between seeds or between neighbouring indices.
    for a, b in [(noise, other), (noise[1:], noise[:-1])]:
        correlation = (a * b).mean() / 0.25
        assert abs(correlation.item()) < 0.02


def test_keys_differ_by_seed_purpose_and_index() -> None:
    keys = {random.key(s, p, i) for s in range(4) for p in ("a", "b") for i in range(50)}
    assert len(keys) == 400
    assert all(0 <= key < 2**63 for key in keys)


def test_each_row_is_a_generator_s_of_its_own() -> None:
    """Of an odd number of values, which leaves half a draw over."""
    found = random.normal(3, "sample", [5, 0, 2**40], (3, 3))
    for row, index in zip(found, [5, 0, 2**40], strict=True):
        own = np.random.Generator(np.random.Philox(key=[random.key(3, "sample"), index]))
        assert np.array_equal(row.numpy(), own.standard_normal((3, 3), dtype=np.float32))


def test_no_noise_for_no_index() -> None:
    assert random.normal(0, "sample", range(0), (1, 2, 2)).shape == (0, 1, 2, 2)


class Renamed(nn.Module):
    """The same velocity field, told the time of the other clock."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor, keep: Tensor | None = None
    ) -> Tensor:
        return self.inner(x, 1 - time, condition, keep)


def integrate(
    net: nn.Module, flow: FlowConfig, noise: Tensor, labels: Tensor, steps: int
) -> Tensor:
    with torch.no_grad():
        return solve(lambda x, t: velocity(net, flow, x, t, labels), noise, "euler", steps)[0]


def test_both_clocks_give_the_same_trajectory(tiny_model: ModelConfig) -> None:
    torch.manual_seed(0)
    inner = build_network(tiny_model).eval()
    noise, labels = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 2])
    forward = integrate(inner, FlowConfig(clock="forward", sigma=0.5), noise, labels, 16)
    backward = integrate(Renamed(inner), FlowConfig(clock="backward", sigma=0.5), noise, labels, 16)
    torch.testing.assert_close(forward, backward, atol=1e-5, rtol=1e-5)
    other = integrate(inner, FlowConfig(clock="backward", sigma=0.5), noise, labels, 16)
    assert not torch.allclose(forward, other, atol=1e-3)


@pytest.mark.parametrize("kind", ["embedding", "linear", "attributes"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_guidance(tiny_model: ModelConfig, kind: str, scale: float) -> None:
    """Against the definition, from one evaluation with and one without the condition."""
    labels = torch.tensor([0, 2])
    if kind != "embedding":
        tiny_model = replace(tiny_model, network=replace(TINY_NETWORK, condition="linear"))
    if kind == "attributes":
        tiny_model = replace(tiny_model, condition=ConditionConfig(kind="attributes", count=5))
        labels = torch.tensor([[1, 0, 1, 0, 0], [0, 1, 1, 1, 1]], dtype=torch.uint8)
    torch.manual_seed(0)
    net = build_network(tiny_model).eval()
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([0.1, 0.8])
    with torch.no_grad():
        told = velocity(net, tiny_model.flow, x, t, labels)
        untold = velocity(net, tiny_model.flow, x, t, labels, torch.zeros(2))
        found = guided_velocity(net, tiny_model.flow, x, t, labels, scale)
    assert not torch.allclose(told, untold)
    torch.testing.assert_close(found, untold + scale * (told - untold), atol=1e-5, rtol=1e-4)


def test_no_guidance_costs_one_evaluation(tiny_model: ModelConfig) -> None:
    calls = []
    net = build_network(tiny_model).eval()
    net.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    x, t, labels = torch.randn(2, 1, 8, 8), torch.zeros(2), torch.tensor([0, 1])
    for scale in (1.0, 2.0):
        guided_velocity(net, tiny_model.flow, x, t, labels, scale)
    assert calls == [2, 4]
