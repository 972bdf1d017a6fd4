"""Images from any module; the workflow's own from the workflow's networks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flowquant
from flowquant.config.sampling import SolverConfig
from flowquant.models.model import load_network, read_model
from flowquant.runtime.errors import UserError
from flowquant.sampling.generate import generate
from project import oracle
from tiny import write_tiny_model


@pytest.fixture
def network(tmp_path: Path) -> nn.Module:
    return flowquant.load(write_tiny_model(tmp_path))


def test_images_are_those_of_the_workflow(network: nn.Module, tmp_path: Path) -> None:
    weights, config = read_model(tmp_path / "model.safetensors")
    labels, solver = torch.tensor([0, 1, 2, 2]), SolverConfig(steps=5, guidance=2.0)
    expected, _ = generate(
        load_network(weights, config), config, labels, solver, 3, 4, torch.device("cpu")
    )
    network.train()
    images = flowquant.sample(network, labels, steps=5, seed=3, guidance=2.0, batch=3)
    # Other batches: but for rounding.
    assert (images.int() - expected.int()).abs().max() <= 1
    assert network.training
    assert flowquant.sample(network, 4, steps=1).shape == (4, 1, 8, 8)


class Towards(nn.Module):
    """The velocity that leads every state to the value of its label."""

    def forward(self, t: Tensor, x: Tensor, *, label: Tensor) -> dict[str, Any] | tuple[Tensor]:
        ends = label.view(-1, *[1] * (x.dim() - 1)).to(x)
        return ((ends - x) / (1 - t.view_as(ends)),)


@pytest.mark.parametrize(
    "call", [lambda module, x, t, y: module(t, x, label=y), "t, x, label=y"], ids=["code", "text"]
)
def test_a_module_of_any_form(call: Any) -> None:
    ends = flowquant.sample(
        Towards(), torch.tensor([0.25, -0.5]), steps=10, shape=(4,), pixels=False, call=call
    )
    torch.testing.assert_close(ends, torch.tensor([[0.25], [-0.5]]).expand(2, 4))


@pytest.mark.parametrize("labels", [2, [3, 5]])
def test_torchcfm_s_network_is_called_as_it_wants_to_be(labels: Any) -> None:
    oracle("torchcfm")
    from torchcfm.models.unet.unet import UNetModelWrapper

    torch.manual_seed(0)
    classes = None if labels == 2 else 10
    network = UNetModelWrapper(
        (3, 8, 8), 32, 1, channel_mult=(1, 2), num_classes=classes, class_cond=classes == 10
    )
    network.out[-1].weight.data.normal_()
    images, expected = (
        flowquant.sample(network, labels, steps=2, shape=(3, 8, 8), pixels=False, call=call)
        for call in ("t, x, y", lambda net, x, t, y: net(t, x, y=y))
    )
    assert torch.equal(images, expected)
    assert images.std() > 0


@pytest.mark.parametrize("classes", [None, 10])
def test_diffusers_network_is_called_by_names(classes: int | None) -> None:
    network = oracle("diffusers").UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        num_class_embeds=classes,
    )
    call = "sample=x, timestep=t" + (", class_labels=y" if classes else "")
    steps: dict[str, Any] = {"steps": 2, "clock": "backward", "time_scale": 1000}
    images = flowquant.sample(network, [3, 5], shape=(3, 8, 8), call=call, **steps)
    assert images.dtype == torch.uint8
    assert images[0].ne(images[1]).any()


class Clock(nn.Module):
    """Keeps the times that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.times: list[Tensor] = []

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.times.append(t)
        return torch.zeros_like(x)


def test_times_run_as_they_are_asked_to() -> None:
    clock = Clock()
    still = flowquant.sample(clock, 2, steps=2, shape=(3,), pixels=False, sigma=0.5)
    flowquant.sample(clock, 2, steps=2, shape=(3,), pixels=False, clock="backward", time_scale=1000)
    assert [time.tolist() for time in clock.times] == [[0, 0], [0.5, 0.5], [1000] * 2, [500] * 2]
    twice = flowquant.sample(clock, 2, steps=2, shape=(3,), pixels=False)
    torch.testing.assert_close(2 * still, twice)


def test_half_types_compute() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3, dtype=torch.bfloat16)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return self.linear(torch.cat([x, t[:, None]], dim=1))

    ends = flowquant.sample(Half(), 2, steps=2, shape=(3,), pixels=False)
    assert ends.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": 2}, "shape: found nothing"),
        ({"labels": 0, "shape": (3,)}, "labels: found none"),
        ({"labels": 2, "shape": (3,), "guidance": 2}, "guidance: found 2 for a module of yours"),
        ({"labels": 2, "shape": (3,), "solver": "rk4"}, "solver: found 'rk4'"),
        ({"labels": 2, "shape": (3,), "steps": 0}, "steps: found 0"),
        ({"labels": 2, "shape": (3,), "clock": "up"}, "clock: found 'up'"),
        ({"labels": 2, "shape": (3,), "call": lambda *_: 3}, "output: found a int"),
        ({"labels": 2, "shape": (3,), "call": "x, y"}, "call: found no `x` or no `t` in 'x, y'"),
        ({"labels": 2, "shape": (3,), "call": "x, t, z"}, "call: found `z`, which is none of x"),
        ({"labels": 2, "shape": (3,), "call": lambda *_: torch.ones(2)}, r"output: found shape"),
    ],
)
def test_mistakes(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        flowquant.sample(Clock(), **arguments)


def test_mistakes_with_a_network_that_says_what_it_is(network: nn.Module) -> None:
    with pytest.raises(UserError, match="labels: found 0 to 3; expected classes 0 to 2"):
        flowquant.sample(network, [0, 3], steps=1)
    with pytest.raises(UserError, match="clock, call: found what the network says of itself"):
        flowquant.sample(network, 2, steps=1, clock="backward", call="t, x")
