"""Encoder layers in FP8, on the CPU through Triton's interpreter and PyTorch's own products."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowquant.config.method import MethodConfig
from flowquant.config.model import ModelConfig
from flowquant.models import fp8
from flowquant.models.e4m3 import E4M3, Covariance, rounded
from flowquant.models.fp8 import Inputs, Product, fuse_fp8, observed, unfuse
from flowquant.models.fused import fuse
from flowquant.models.kernels.attention import attention
from flowquant.models.kernels.cast import Cast, cast
from flowquant.models.kernels.linear import linear_activate
from flowquant.models.kernels.norm import add_norm
from flowquant.models.model import build_network
from flowquant.quantization.apply import quantize_tensor
from flowquant.quantization.packed_file import PackedTensor
from flowquant.quantization.packed_network import PackedWeight
from tiny import TINY_MODEL, TINY_NETWORK

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for CPUs"),
    pytest.mark.usefixtures("e4m3"),
]
# Half a step of three bits of mantissa, relative to a value.
STEP = 2**-4


def how(factor: float) -> Cast:
    return Cast(torch.tensor([factor]), torch.zeros(1, dtype=torch.int32))


def as_cast(values: Tensor, factor: float) -> Tensor:
    return (values * factor).clamp(-448, 448).to(E4M3)


def test_what_is_beyond_the_range_saturates_and_is_counted() -> None:
    x = torch.tensor([[1.0, -3.0, 500.0, -1e9, torch.inf, torch.nan, 0.0]])
    count = how(2.0)
    found = cast(x, count).float()[0]
    assert found[:5].tolist() == [2, -6, 448, -448, 448]
    assert found[5].isnan()  # no number is made of what is none
    assert count.saturated.item() == 3
    cast(torch.ones(5000), count)
    assert count.saturated.item() == 3


def test_kernels_that_cast_what_they_write() -> None:
    torch.manual_seed(0)
    x, y, weight, bias = torch.randn(9, 24), torch.randn(9, 24), torch.randn(24), torch.randn(24)
    out = torch.empty(9, 24, dtype=E4M3)
    wanted = add_norm(x, y, weight, bias, 1e-5)
    assert add_norm(x, y, weight, bias, 1e-5, cast_out=out, how=how(32.0)).equal(wanted)
    assert out.float().equal(as_cast(wanted, 32.0).float())
    qkv = torch.randn(2, 20, 3 * 32)
    found = attention(qkv, 2, how=how(64.0)).float() / 64
    torch.testing.assert_close(found, attention(qkv, 2), rtol=STEP, atol=1e-3)


@pytest.mark.parametrize(("rows", "inner", "outer"), [(5, 32, 48), (140, 144, 160)])
@pytest.mark.parametrize("gelu", [True, False])
def test_a_linear_layer_and_its_activation(rows: int, inner: int, outer: int, gelu: bool) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, rows, inner).to(E4M3), torch.randn(outer, inner).to(E4M3)
    bias, scale = torch.randn(outer), torch.tensor([0.25])
    wanted = F.linear(x.float(), weight.float()) * scale + bias
    wanted = F.gelu(wanted) if gelu else wanted.relu()
    for factor in (4.0, 256.0):
        cast_by = how(factor)
        found = linear_activate(x, weight, bias, scale, gelu, cast_by).float()
        torch.testing.assert_close(
            found / factor, wanted.clamp(max=448 / factor), rtol=STEP, atol=1e-3
        )
        beyond = (wanted * factor > 448).sum().item()
        assert cast_by.saturated.item() == beyond
        assert (beyond > 0) == (factor > 4)


def test_a_bias_makes_up_for_what_rounding_changes_on_average() -> None:
    torch.manual_seed(0)
    weight, bias, count = torch.randn(64, 48), torch.randn(64), how(1.0).saturated
    x = 0.3 * torch.randn(500, 48) + torch.randn(48)
    seen = Inputs(torch.zeros(()), torch.zeros(48), torch.zeros(()))
    for part in x.view(5, 10, 10, 48):
        seen.add(part)
    torch.testing.assert_close(seen.mean, x.mean(0))
    assert seen.largest == x.abs().max()
    shifts = []
    for mean in (None, seen.mean):
        product = Product(weight, bias, seen.largest.item(), count, mean)
        change = product(cast(x, product.cast)) - F.linear(x, weight, bias)
        shifts.append(change.mean(0).norm().item())
    assert shifts[1] < shifts[0] / 5


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_before_an_activation_it_makes_up_where_that_passes_on(
    activation: Literal["relu", "gelu"],
) -> None:
    torch.manual_seed(0)
    model = replace(TINY_MODEL, network=replace(TINY_NETWORK, activation=activation))
    network: Any = build_network(model).eval().requires_grad_(False)
    layer, x = network.transformer.layers[0], torch.randn(40, 16, TINY_NETWORK.width)
    x += 2 * torch.randn(TINY_NETWORK.width)
    act = layer.activation
    layer.linear1.bias.copy_(-layer.linear1(x).mean((0, 1)) - 0.5)  # most is not passed on
    with observed(network) as seen:
        layer.linear1(x)
    z, mean = layer.linear1(x).flatten(0, 1), seen[layer][2].mean
    if activation == "relu":
        passed = z[:, 3] > 0
        torch.testing.assert_close(mean[3], x.flatten(0, 1)[passed].mean(0), rtol=0.05, atol=0.05)
    shifts = []
    for how_much in (None, x.mean((0, 1)), mean):
        product = Product(
            layer.linear1.weight, layer.linear1.bias, x.abs().max().item(), torch.zeros(1), how_much
        )
        # Of rounded weights alone.
        rounded = product.weight.float() * product.scales[1]
        found = act(F.linear(x.flatten(0, 1), rounded, product.bias))
        shifts.append((found - act(z)).mean(0).norm().item())
    assert shifts[2] < shifts[0] / 3
    assert shifts[2] < shifts[1] / 2


def test_slopes_of_both_signs_do_not_cancel() -> None:
    """A mean is of what was seen, also where GELU falls as much as it rises."""
    x = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    seen = Inputs(torch.zeros(()), torch.zeros(2, 8), torch.zeros(2))
    slope = fp8._slope(F.gelu, torch.linspace(-3, 3, 400))
    falling = slope * torch.where(slope > 0, -slope[slope < 0].sum() / slope[slope > 0].sum(), 1)
    seen.add(x, torch.stack([slope, falling], 1))
    assert falling.sum().abs() < 1e-4
    assert seen.mean.abs().max() <= seen.largest


def errors(network: nn.Module, model: ModelConfig) -> tuple[int, float, int]:
    """Layers in FP8, the velocity's relative error, and saturated activations.

    Where FP8 is off, the velocity is as it was.
    """
    inputs = torch.randn(3, 1, 8, 8), torch.rand(3), torch.arange(3)
    plain = network(*inputs)
    with observed(network) as seen:
        network(*inputs)
    fuse(network)
    in_fp8 = fuse_fp8(network, seen)
    with in_fp8.off():
        torch.testing.assert_close(network(*inputs), plain, rtol=1e-4, atol=1e-5)
    found = network(*inputs)
    return in_fp8.layers, ((found - plain).norm() / plain.norm()).item(), int(in_fp8.saturated)


@pytest.fixture
def few_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fp8, "LEAST_TOKENS", 1)


@pytest.mark.usefixtures("few_tokens")
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_network_in_fp8_is_near_itself(activation: Literal["relu", "gelu"]) -> None:
    torch.manual_seed(0)
    model = replace(TINY_MODEL, network=replace(TINY_NETWORK, activation=activation))
    network = build_network(model).eval().requires_grad_(False)
    count, error, saturated = errors(network, model)
    assert (count, saturated) == (2, 0)
    assert 1e-3 < error < 0.05


@pytest.mark.usefixtures("few_tokens")
def test_an_encoders_first_layers_stay_as_they_are() -> None:
    torch.manual_seed(0)
    found = []
    for layers in (2, 3, 4):  # to keep both of two would leave nothing
        model = replace(TINY_MODEL, network=replace(TINY_NETWORK, layers=layers))
        network: Any = build_network(model).eval().requires_grad_(False)
        count, error, _ = errors(network, model)
        _, chosen = network.transformer.forward.args
        found.append([layer is not None for layer in chosen])
        assert sum(found[-1]) == count
        assert 1e-3 < error < 0.05
    assert found == [[True, True], [False, False, True], [False, False, True, True]]


@pytest.mark.usefixtures("few_tokens")
def test_layers_whose_sizes_fp8_refuses_stay_as_they_are() -> None:
    torch.manual_seed(0)
    model = replace(TINY_MODEL, network=replace(TINY_NETWORK, feedforward=24))
    network = build_network(model).eval().requires_grad_(False)
    count, error, _ = errors(network, model)
    assert (count, error < 1e-5) == (0, True)


@pytest.mark.usefixtures("few_tokens")
@pytest.mark.parametrize("granularity", ["row", "scaled"])
def test_packed_weights_become_e4m3_directly(
    granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the expanded weight does: the same scale, and each value rounded once."""
    monkeypatch.setattr("flowquant.quantization.packed_network._kernel_serves", lambda device: True)
    method = MethodConfig(
        levels="lloyd", granularity=granularity, scope="matrices", keep=(), least_values=5
    )
    torch.manual_seed(0)
    book = quantize_tensor(torch.randn(48, 32), method, 2)
    packed = PackedWeight(PackedTensor.of(book))
    count = torch.zeros(1, dtype=torch.int32)
    x, bias = torch.randn(5, 32), torch.randn(48)
    products = [Product(weight, bias, 4.0, count) for weight in (packed, book.expand())]
    assert products[0].weight.float().equal(products[1].weight.float())
    results = [product(cast(x, product.cast)) for product in products]
    assert results[0].equal(results[1])
    torch.testing.assert_close(results[0], F.linear(x, book.expand(), bias), rtol=0.1, atol=0.5)


def test_few_tokens_and_many_an_image_stay_as_they_are() -> None:
    torch.manual_seed(0)
    network: Any = build_network(TINY_MODEL).eval().requires_grad_(False)
    with observed(network) as seen:
        network(torch.randn(3, 1, 8, 8), torch.rand(3), torch.arange(3))
    fuse(network)
    fuse_fp8(network, seen)
    encoder = network.transformer
    shapes = (1, 16, TINY_NETWORK.width), (1, 130, TINY_NETWORK.width)
    given = [torch.randn(shape) for shape in shapes]
    # Fused layers overwrite what they are given.
    found = [encoder(x.clone()) for x in given]
    unfuse(network)
    for x, y in zip(given, found, strict=True):
        torch.testing.assert_close(y, encoder(x), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("few_tokens")
def test_weights_are_rounded_under_their_inputs_but_packed_ones_are_not() -> None:
    torch.manual_seed(0)
    network: Any = build_network(TINY_MODEL).eval().requires_grad_(False)
    layer = network.transformer.layers[0]
    method = MethodConfig(
        levels="lloyd", granularity="row", scope="matrices", keep=(), least_values=5
    )
    book = quantize_tensor(layer.linear1.weight, method, 2)
    del layer.linear1.weight
    layer.linear1.weight = PackedWeight(PackedTensor.of(book))
    with observed(network) as seen:
        network(torch.randn(40, 1, 8, 8), torch.rand(40), torch.arange(40) % 3)
    kinds = [isinstance(each.covariance, Covariance) for each in seen[layer]]
    assert kinds == [True, True, False, True]
    found = fp8._in_order(seen)[layer]
    assert found[2] is None
    weight, own = layer.linear2.weight, found[3]
    assert own is not None
    by = fp8.scale_of(weight)
    covariance = seen[layer][3].covariance
    assert covariance is not None
    changes = [values.float() * by - weight for values in (own, rounded(weight, by))]
    errors = [((change @ covariance.value) * change).sum().item() for change in changes]
    assert errors[0] < 0.7 * errors[1]
