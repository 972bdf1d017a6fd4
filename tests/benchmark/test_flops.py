"""The counted operations are those that PyTorch counts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from flowquant.benchmark.flops import forward_flops, large_products, step_flops
from flowquant.config.custom import CustomConfig
from flowquant.config.model import ConditionConfig, ModelConfig
from flowquant.models.model import build_network
from flowquant.runtime import own_code
from tiny import TINY_MODEL, TINY_NETWORK


def counted(work: Callable[[], object]) -> int:
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("time", ["linear", "fourier"])
@pytest.mark.parametrize("condition", ["embedding", "linear"])
@pytest.mark.parametrize("times", [1, 5])
def test_forward(
    tiny_model: ModelConfig,
    time: Literal["linear", "fourier"],
    condition: Literal["embedding", "linear"],
    times: int,
) -> None:
    model = replace(tiny_model, network=replace(TINY_NETWORK, time=time, condition=condition))
    network = build_network(model).eval()
    x, labels = torch.randn(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64)
    with torch.no_grad():
        found = counted(lambda: network(x, torch.rand(times), labels))
    assert found == forward_flops(model, 5, times)


class Attentive(nn.Module):
    """Does what "meta" cannot: reads a value, and holds a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Conv2d(1, 16, 3, padding=1)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.out = nn.Conv2d(16, 1, 3, padding=1)
        self.places = torch.linspace(0, 1, 16)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        assert t.max().item() <= 1
        tokens = self.layer(self.into(x).flatten(2).transpose(1, 2) + self.places)
        return self.out(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))


def test_a_class_of_the_users_own_is_counted_where_it_can_be_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"{__name__}:Attentive"
    monkeypatch.setenv(own_code.ALLOWED, name)
    own = CustomConfig(family="custom", class_=name, call="x, t")
    model = replace(TINY_MODEL, network=own)
    x, t = torch.randn(5, 1, 8, 8), torch.rand(5)
    with torch.enable_grad():
        assert counted(lambda: Attentive().eval()(x, t)) == forward_flops(model, 5, 5)
    rows = {(p.inner, p.columns): p.rows for p in large_products(model, 5)}
    assert rows[16, 48] == rows[32, 16] == 5 * 64


def test_attributes(tiny_model: ModelConfig) -> None:
    network = replace(TINY_NETWORK, condition="linear")
    condition = ConditionConfig(kind="attributes", count=40)
    model = replace(tiny_model, network=network, condition=condition)
    x, labels = torch.randn(5, 1, 8, 8), torch.ones(5, 40, dtype=torch.uint8)
    with torch.no_grad():
        found = counted(lambda: build_network(model).eval()(x, torch.rand(1), labels))
    assert found == forward_flops(model, 5, 1)


def test_a_step_is_three_forward_passes_all_but_first_layers(tiny_model: ModelConfig) -> None:
    network = build_network(tiny_model).eval()
    x, labels = torch.randn(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64)
    found = counted(lambda: network(x, torch.rand(5), labels).square().mean().backward())
    # No gradient by the images and times themselves.
    assert found == pytest.approx(step_flops(tiny_model, 5), rel=0.05)
    assert found <= step_flops(tiny_model, 5)


def test_most_operations_are_the_encoders_products(tiny_model: ModelConfig) -> None:
    found = large_products(tiny_model, 5)
    width, feedforward, rows = TINY_NETWORK.width, TINY_NETWORK.feedforward, 5 * 16
    layer = {(width, 3 * width), (width, width), (width, feedforward), (feedforward, width)}
    encoder = {(p.inner, p.columns): p.times for p in found if p.rows == rows}
    assert layer <= set(encoder)
    assert {encoder[shape] for shape in layer} == {TINY_NETWORK.layers}
    assert 0.5 < sum(p.flops for p in found) / forward_flops(tiny_model, 5, 1) < 1
