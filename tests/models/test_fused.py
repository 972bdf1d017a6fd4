"""The GPU kernels, on the CPU through Triton's interpreter, against PyTorch's own operations."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flowquant.config.model import ModelConfig
from flowquant.models import fused_encoder
from flowquant.models.fused import encode, fuse, fuse_for_training
from flowquant.models.fused_encoder import encode_training
from flowquant.models.kernels.activation import activate, activate_backward
from flowquant.models.kernels.attention import attention, attention_backward
from flowquant.models.kernels.feedforward import (
    linear_relu_backward,
    linear_relu_dropout,
    relu_sums,
)
from flowquant.models.kernels.norm import add_norm, add_norm_backward
from flowquant.models.kernels.tokens import begin
from flowquant.models.model import build_network
from tiny import TINY_NETWORK

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for CPUs")
SEED = torch.tensor([1234])


def gradient_of(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def reference_attention(qkv: Tensor, heads: int) -> Tensor:
    batch, tokens, triple = qkv.shape
    query, key, value = qkv.view(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, key, value)
    return mixed.transpose(1, 2).reshape(batch, tokens, triple // 3)


@pytest.mark.parametrize(("tokens", "heads", "size"), [(49, 3, 32), (16, 2, 8), (64, 1, 48)])
def test_attention_and_its_gradient(tokens: int, heads: int, size: int) -> None:
    torch.manual_seed(0)
    qkv = torch.randn(2, tokens, 3 * heads * size, requires_grad=True)
    wanted = reference_attention(qkv, heads)
    torch.testing.assert_close(attention(qkv.detach(), heads), wanted, atol=1e-5, rtol=1e-4)
    grad = torch.randn_like(wanted)
    wanted.backward(grad)
    found, sums = attention_backward(qkv.detach(), grad, heads)
    torch.testing.assert_close(found, qkv.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(sums, gradient_of(qkv).sum(1), atol=1e-4, rtol=1e-3)


def test_attention_with_dropout() -> None:
    """The output is linear in the values: ⟨g, out⟩ = ⟨grad, values⟩ if both use the same mask."""
    torch.manual_seed(0)
    qkv, grad = torch.randn(3, 20, 3 * 32), torch.randn(3, 20, 32)
    out = attention(qkv, 2, 0.3, SEED)
    back, _ = attention_backward(qkv, grad, 2, 0.3, SEED)
    values = (back.view(3, 20, 3, 32)[:, :, 2] * qkv.view(3, 20, 3, 32)[:, :, 2]).sum()
    torch.testing.assert_close((grad * out).sum(), values, atol=1e-3, rtol=1e-4)
    assert not torch.equal(out, attention(qkv, 2, 0.3, SEED + 1))
    # All values 1: each output is its kept weights' sum, 1 on average.
    qkv.view(3, 20, 3, 32)[:, :, 2] = 1
    draws = torch.stack([attention(qkv, 2, 0.3, SEED + s) for s in range(20)])
    assert draws.mean().item() == pytest.approx(1, abs=0.02)
    assert draws.std() > 0.05


@pytest.mark.parametrize(("rows", "width"), [(7, 24), (4, 384), (1, 100)])
def test_add_norm_and_its_gradient(rows: int, width: int) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(rows, width) * 3 + 5, torch.randn(rows, width)
    tensors = x, y, torch.randn(width), torch.randn(width)
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    wanted = F.layer_norm(leaves[0] + leaves[1], (width,), leaves[2], leaves[3])
    total, kept = torch.empty(rows, width), torch.empty(rows, width, dtype=torch.int8)
    found = add_norm(*tensors, 1e-5, total=total, kept=kept)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(total, tensors[0] + tensors[1])
    grad = torch.randn(rows, width)
    wanted.backward(grad)
    gradients = add_norm_backward(total, grad, tensors[2], 1e-5)
    wants = [gradient_of(leaf) for leaf in leaves]
    found_sums = gradients[2].sum(0).split(width)
    for mine, want in zip((*gradients[:2], *found_sums), (*wants, wants[1].sum(0)), strict=True):
        torch.testing.assert_close(mine, want, atol=1e-4, rtol=1e-3)


def test_add_norm_of_a_row_for_all() -> None:
    torch.manual_seed(0)
    x, y, weight, bias = torch.randn(2, 5, 24), *torch.randn(3, 24)
    wanted = F.layer_norm(x + y, (24,), weight, bias)
    torch.testing.assert_close(add_norm(x, y, weight, bias, 1e-5), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("images", "tokens", "values", "width"), [(2, 49, 16, 24), (3, 5, 20, 150)]
)
def test_what_a_transformer_begins_with(images: int, tokens: int, values: int, width: int) -> None:
    torch.manual_seed(0)
    patches, weight, bias = (
        torch.randn(images, tokens, values),
        torch.randn(width, values),
        torch.randn(width),
    )
    context, position = torch.randn(images, width), torch.randn(1, tokens, width)
    wanted = F.linear(patches, weight, bias) + context[:, None] + position
    found = begin(patches, weight, bias, context, position)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_add_norm_with_dropout() -> None:
    torch.manual_seed(0)
    x, y, total = torch.randn(50, 60), torch.randn(50, 60), torch.empty(50, 60)
    mask = torch.empty(50, 60, dtype=torch.int8)
    add_norm(x, y, torch.ones(60), torch.zeros(60), 1e-5, 0.25, SEED, total, mask)
    kept = (total - x).abs() > 1e-6
    assert torch.equal(kept, mask == 1)
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)
    torch.testing.assert_close((total - x)[kept], y[kept] / 0.75, atol=1e-5, rtol=1e-4)
    of_x, of_y, sums = add_norm_backward(
        total, torch.randn(50, 60), torch.ones(60), 1e-5, 0.25, mask
    )
    torch.testing.assert_close(of_y, of_x * kept / 0.75)
    torch.testing.assert_close(sums.sum(0)[120:], of_y.sum(0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gelu", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_activation_and_its_gradient(gelu: bool, dropout: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(70, 150, requires_grad=True)
    plain = F.gelu(x) if gelu else F.relu(x)
    mask = torch.empty(70, 150, dtype=torch.int8)
    found = activate(x.detach(), gelu, dropout, SEED, mask)
    kept = (found != 0) | (plain == 0)
    assert kept.float().mean().item() == pytest.approx(1 - dropout * (1 if gelu else 0.5), abs=0.03)
    # Φ is within 3e-7, and x within 4: far below bfloat16's 4e-3.
    torch.testing.assert_close(found, (plain * kept / (1 - dropout)).detach(), atol=2e-6, rtol=1e-5)
    grad = torch.randn_like(plain)
    (plain * kept / (1 - dropout)).backward(grad)
    saved = x.detach() if gelu else found
    back, sums = activate_backward(saved, grad, gelu, dropout, mask)
    torch.testing.assert_close(back, x.grad, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(sums.sum(0), gradient_of(x).sum(0), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_activations_in_products(dropout: float) -> None:
    """To the same values and the same masks as in kernels of their own."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(150, 64), torch.randn(200, 64), torch.randn(200)
    wanted = activate(F.linear(x, weight, bias), False, dropout, SEED)
    found = torch.empty(150, 200)
    linear_relu_dropout(x, weight, bias, dropout, SEED, found)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    grad, narrow = torch.randn(150, 64), torch.randn(64, 200)
    back, sums = activate_backward(wanted, grad @ narrow, False, dropout)
    of_x, found_sums = torch.empty(150, 200), torch.empty(relu_sums(150), 200)
    linear_relu_backward(grad, narrow, wanted, dropout, of_x, found_sums)
    torch.testing.assert_close(of_x, back, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found_sums.sum(0), sums.sum(0), atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_layer(tiny_model: ModelConfig, activation: Any) -> None:
    torch.manual_seed(0)
    model = replace(tiny_model, network=replace(TINY_NETWORK, activation=activation))
    network: Any = build_network(model)
    layer = network.transformer.layers[0].eval()
    # As trained weights are, so that no bias or norm can be left out unseen.
    for weight in layer.parameters():
        weight.data.add_(torch.randn_like(weight), alpha=0.1)
    x = torch.randn(3, 4, TINY_NETWORK.width)
    with torch.inference_mode():
        wanted = layer(x)
        torch.testing.assert_close(encode(layer, x), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("placed", "together", "activation", "width"),
    [(True, 1, "gelu", 32), (True, 2, "relu", 64), (False, 10, "relu", 32)],
)
def test_a_network_in_training(
    tiny_model: ModelConfig,
    placed: bool,
    together: int,
    activation: Any,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without dropout, the fused network has the same output and the same gradients."""
    monkeypatch.setattr(fused_encoder, "TOGETHER", together)
    torch.manual_seed(0)
    settings = replace(TINY_NETWORK, layers=3, activation=activation, width=width)
    model = replace(tiny_model, network=settings)
    networks: list[Any] = [build_network(model) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    for network in networks:
        for layer in network.transformer.layers:
            layer.dropout.p = layer.self_attn.dropout = 0.0
    places = fuse_for_training(networks[1], torch.device("cpu"))
    weights = list(networks[1].transformer.parameters())
    if placed:
        vector = torch.full((sum(weight.numel() for weight in weights),), torch.nan)
        parts = vector.split([weight.numel() for weight in weights])
        places.update((w, part.view(w.shape)) for w, part in zip(weights, parts, strict=True))
    x, time, labels = torch.randn(5, 1, 8, 8), torch.rand(5), torch.arange(5) % 3
    outputs = [network(x, time, labels) for network in networks]
    torch.testing.assert_close(outputs[1], outputs[0], atol=1e-5, rtol=1e-4)
    for output in outputs:
        output.square().sum().backward()
    pairs = zip(networks[0].named_parameters(), networks[1].parameters(), strict=True)
    for (name, plain), fused in pairs:
        assert fused not in places or fused.grad is None
        found = places.get(fused, fused.grad)
        torch.testing.assert_close(found, plain.grad, atol=1e-4, rtol=1e-3, msg=name)


def test_places_that_are_no_stack(tiny_model: ModelConfig) -> None:
    """Gradients are copied to places at uneven distances."""
    torch.manual_seed(0)
    network: Any = build_network(replace(tiny_model, network=replace(TINY_NETWORK, layers=2)))
    layers, seeds = network.transformer.layers, torch.ones(2, 4, dtype=torch.int64)
    x = torch.randn(2, 4, TINY_NETWORK.width)
    encode_training(layers, seeds, {}, x).sum().backward()
    places = {weight: torch.empty_like(weight) for weight in layers.parameters()}
    encode_training(layers, seeds, places, x).sum().backward()
    for weight, found in places.items():
        torch.testing.assert_close(found, weight.grad)


def test_more_tokens_than_the_kernels_hold(tiny_model: ModelConfig) -> None:
    """The layer's own computation takes over, dropout and gradients included."""
    network: Any = build_network(tiny_model)
    layer = network.transformer.layers[0]
    x = torch.randn(1, 130, TINY_NETWORK.width)
    outputs = []
    seeds = torch.zeros(1, 4, dtype=torch.int64)
    for compute in (layer, lambda x: encode_training([layer], seeds, {}, x)):
        torch.manual_seed(0)
        layer.zero_grad()
        output = compute(x)
        output.sum().backward()
        outputs.append((output, layer.linear1.bias.grad.clone()))
    assert all(torch.equal(a, b) for a, b in zip(*outputs, strict=True))
    with torch.inference_mode():
        assert torch.equal(encode(layer.eval(), x), layer(x))


def test_seeds_are_fresh_every_pass(tiny_model: ModelConfig) -> None:
    network = build_network(tiny_model)
    fuse_for_training(network, torch.device("cpu"))
    args = torch.randn(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.long)
    torch.manual_seed(1)
    first, second = network(*args), network(*args)
    torch.manual_seed(1)
    assert torch.equal(network(*args), first)
    assert not torch.equal(first, second)


def test_fused_inference_replaces_every_layer(tiny_model: ModelConfig) -> None:
    network: Any = build_network(tiny_model).eval()
    args = torch.randn(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.long)
    with torch.inference_mode():
        plain = network(*args)
        fuse(network)
        torch.testing.assert_close(network(*args), plain, atol=1e-5, rtol=1e-4)
    assert all("forward" in vars(layer) for layer in network.transformer.layers)
