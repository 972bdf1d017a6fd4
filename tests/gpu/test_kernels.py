"""Every kernel of the fused layers, in bfloat16, against PyTorch's own operations in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from near import distance

pytest.importorskip("triton")

from flowquant.models.e4m3 import Covariance, rounded, rounded_in_order
from flowquant.models.kernels.activation import activate, activate_backward
from flowquant.models.kernels.attention import attention, attention_backward
from flowquant.models.kernels.bias import add_bias, sum_pixels
from flowquant.models.kernels.cast import Cast, cast
from flowquant.models.kernels.feedforward import (
    linear_relu_backward,
    linear_relu_dropout,
    relu_sums,
)
from flowquant.models.kernels.group_norm import group_norm, group_norm_backward
from flowquant.models.kernels.linear import linear_activate
from flowquant.models.kernels.norm import add_norm, add_norm_backward
from flowquant.models.kernels.sums import sum_rows, sum_stacks
from flowquant.models.kernels.tokens import begin
from flowquant.training.adamw_kernel import adamw

# Of bfloat16 in and out, and of sums over many of its roundings.
NEAR = 8e-3
TOKENS = [1, 2, 15, 16, 17, 49, 63, 64, 65, 127, 128]
SEEDS = range(20)


def draw(device: torch.device, *shape: int) -> tuple[Tensor, Tensor]:
    """Normal values in bfloat16, and the same in float64 with a gradient."""
    values = torch.randn(shape, device=device).bfloat16()
    return values, values.double().requires_grad_()


def seed(device: torch.device, number: int = 0) -> Tensor:
    return torch.tensor([1234 + number], device=device)


def reference_attention(qkv: Tensor, heads: int) -> Tensor:
    batch, tokens, triple = qkv.shape
    query, key, value = qkv.view(batch, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1)
    return (weights @ value).transpose(1, 2).reshape(batch, tokens, triple // 3)


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize(("heads", "size"), [(3, 32), (2, 48), (1, 8)])
def test_attention(device: torch.device, tokens: int, heads: int, size: int) -> None:
    qkv, exact = draw(device, 5, tokens, 3 * heads * size)
    wanted = reference_attention(exact, heads)
    assert distance(attention(qkv, heads), wanted) < NEAR
    grad = torch.randn(wanted.shape, device=device).bfloat16()
    wanted.backward(grad.double())
    found, sums = attention_backward(qkv, grad, heads)
    assert exact.grad is not None
    assert distance(found, exact.grad) < 2 * NEAR
    # Over one token, queries and keys have no gradient.
    if tokens > 1:
        assert distance(sums, exact.grad.sum(1)) < 4 * NEAR


@pytest.mark.parametrize("tokens", [1, 17, 49, 128])
def test_dropout_of_attention(device: torch.device, tokens: int) -> None:
    """⟨g, out⟩ = ⟨gradient, values⟩ if both passes drop the same; on average nothing changes."""
    qkv, _ = draw(device, 64, tokens, 3 * 64)
    grad, _ = draw(device, 64, tokens, 64)
    out = attention(qkv.float(), 2, 0.3, seed(device))
    back, _ = attention_backward(qkv.float(), grad.float(), 2, 0.3, seed(device))
    inner = (back.view(64, tokens, 3, 64)[:, :, 2] * qkv.view(64, tokens, 3, 64)[:, :, 2]).sum()
    assert inner.item() == pytest.approx((grad.float() * out).sum().item(), rel=0.02, abs=3)
    qkv.view(64, tokens, 3, 64)[:, :, 2] = 1
    draws = torch.stack([attention(qkv, 2, 0.3, seed(device, n)).float() for n in SEEDS])
    # One token's output is 0 or 1 / 0.7, with a deviation of 0.65; means of more vary less.
    of_all = 0.65 / (len(SEEDS) * 64 * 2 * tokens) ** 0.5
    assert draws.mean().item() == pytest.approx(1, abs=4 * of_all)
    assert draws.std() > 0.03


@pytest.mark.parametrize("rows", [1, 7, 129, 4097])
@pytest.mark.parametrize("width", [24, 100, 384, 768, 1025])
def test_add_norm(device: torch.device, rows: int, width: int) -> None:
    (x, x64), (y, y64) = draw(device, rows, width), draw(device, rows, width)
    (weight, w64), (bias, b64) = draw(device, width), draw(device, width)
    wanted = F.layer_norm(x64 + y64, (width,), w64, b64)
    total = torch.empty_like(x)
    assert distance(add_norm(x, y, weight, bias, 1e-5, total=total, kept=None), wanted) < NEAR
    grad = torch.randn(rows, width, device=device).bfloat16()
    wanted.backward(grad.double())
    found = add_norm_backward(total, grad, weight, 1e-5)
    of_weight, of_bias, of_branch = found[2].sum(0).split(width)
    for mine, leaf in zip((*found[:2], of_weight, of_bias), (x64, y64, w64, b64), strict=True):
        assert leaf.grad is not None
        assert distance(mine, leaf.grad) < 2 * NEAR
    assert y64.grad is not None
    assert (of_branch - y64.grad.sum(0)).abs().max() < 2e-2 * rows**0.5


@pytest.mark.parametrize("rows", [1, 7, 4097])
@pytest.mark.parametrize("width", [24, 384, 1025])
def test_add_norm_of_a_row_for_all(device: torch.device, rows: int, width: int) -> None:
    (x, x64), (y, y64) = draw(device, rows, width), draw(device, width)
    (weight, w64), (bias, b64) = draw(device, width), draw(device, width)
    wanted = F.layer_norm(x64 + y64, (width,), w64, b64)
    assert distance(add_norm(x, y, weight, bias, 1e-5), wanted) < NEAR


@pytest.mark.parametrize("rows", [1, 129, 4097])
def test_dropout_of_add_norm(device: torch.device, rows: int) -> None:
    (x, _), (y, _), width = draw(device, rows, 384), draw(device, rows, 384), 384
    total, mask = torch.empty_like(x), torch.empty_like(x, dtype=torch.int8)
    one, none = torch.ones_like(x[0]), torch.zeros_like(x[0])
    add_norm(x, y, one, none, 1e-5, 0.25, seed(device), total, mask)
    assert mask.float().mean().item() == pytest.approx(0.75, abs=2 / (rows * width) ** 0.5)
    assert distance(total, x.double() + y.double() * mask / 0.75) < NEAR
    grad = torch.randn_like(x)
    of_x, of_y, _ = add_norm_backward(total, grad, one, 1e-5, 0.25, mask)
    assert distance(of_y, of_x.double() * mask / 0.75) < NEAR
    # In a place of its own, also where nothing is dropped.
    place = torch.empty_like(x)
    of_x, of_y, _ = add_norm_backward(total, grad, one, 1e-5, of_y=place)
    assert of_y is place
    assert torch.equal(of_x, place)


@pytest.mark.parametrize("gelu", [True, False])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize(("rows", "width"), [(1, 8), (65, 150), (129, 2048), (4097, 96)])
def test_activation(
    device: torch.device, gelu: bool, dropout: float, rows: int, width: int
) -> None:
    x, x64 = draw(device, rows, width)
    mask = torch.empty_like(x, dtype=torch.int8)
    plain = F.gelu(x64) if gelu else x64.relu()
    out = activate(x, gelu, dropout, seed(device), mask)
    kept = mask.bool() if gelu and dropout else (out != 0) | (plain == 0)
    wanted = plain * kept / (1 - dropout)
    assert distance(out, wanted) < NEAR
    if dropout and rows > 1:
        share = kept[plain != 0].float().mean().item()
        assert share == pytest.approx(1 - dropout, abs=0.02)
    grad = torch.randn_like(x)
    wanted.backward(grad.double())
    back, sums = activate_backward(x if gelu else out, grad, gelu, dropout, mask)
    assert x64.grad is not None
    assert distance(back, x64.grad) < 2 * NEAR
    assert distance(sums.sum(0), x64.grad.sum(0)) < 4 * NEAR
    # In the gradient's own place.
    inside, _ = activate_backward(x if gelu else out, grad, gelu, dropout, mask, grad)
    assert inside is grad
    assert torch.equal(inside, back)


@pytest.mark.parametrize("dropout", [0.0, 0.25])
@pytest.mark.parametrize(
    ("rows", "inner", "width"), [(1, 64, 8), (129, 128, 200), (4097, 384, 2048), (300, 768, 3072)]
)
def test_activations_in_products(
    device: torch.device, rows: int, inner: int, width: int, dropout: float
) -> None:
    x, x64 = draw(device, rows, inner)
    bias, b64 = draw(device, width)
    weight = (torch.randn(width, inner, device=device) / inner**0.5).bfloat16()
    before = F.linear(x64, weight.double(), b64).detach()
    found = torch.empty(rows, width, device=device, dtype=torch.bfloat16)
    linear_relu_dropout(x, weight, bias, dropout, seed(device), found)
    # The mask is that of `activate`, whatever the tiles.
    mask = activate(torch.ones_like(found), False, dropout, seed(device)) > 0
    assert distance(found, before.relu() * mask / (1 - dropout)) < NEAR
    grad, g64 = draw(device, rows, inner)
    narrow = (torch.randn(inner, width, device=device) / inner**0.5).bfloat16()
    wanted = (g64 @ narrow.double()).detach() * (found > 0) / (1 - dropout)
    back = torch.empty_like(found)
    sums = torch.empty(relu_sums(rows), width, device=device)
    linear_relu_backward(grad, narrow, found, dropout, back, sums)
    assert distance(back, wanted) < NEAR
    assert distance(sums.sum(0), wanted.sum(0)) < NEAR


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("with_added", [True, False])
@pytest.mark.parametrize(
    ("channels", "groups", "height", "width"),
    [(8, 2, 4, 4), (12, 4, 3, 5), (96, 32, 2, 2), (24, 2, 1, 1), (256, 32, 16, 16)],
)
def test_group_norm(
    device: torch.device,
    channels: int,
    groups: int,
    height: int,
    width: int,
    with_added: bool,
    silu: bool,
) -> None:
    last = torch.channels_last
    x = torch.randn(3, channels, height, width, device=device).bfloat16()
    x = x.contiguous(memory_format=last)
    x64 = x.double().requires_grad_()
    (weight, w64), (bias, b64) = draw(device, channels), draw(device, channels)
    added, a64 = draw(device, 3, channels)
    shifted = x64 + a64[:, :, None, None] if with_added else x64
    wanted = F.group_norm(shifted, groups, w64, b64, 1e-5)
    wanted = F.silu(wanted) if silu else wanted
    given, moments = added if with_added else None, torch.empty(2, 3, groups, device=device)
    found = group_norm(x, groups, weight, bias, 1e-5, silu, given, moments=moments)
    assert distance(found, wanted) < NEAR
    grad = torch.randn_like(x)
    wanted.backward(grad.double())
    gradients = group_norm_backward(x, grad, groups, weight, bias, moments, silu, given)
    for mine, leaf in zip(gradients[:3], (x64, w64, b64), strict=True):
        assert leaf.grad is not None
        assert mine is not None
        # What is normalised over a few values passes on little but rounding.
        if height * width * channels // groups > 8:
            assert distance(mine, leaf.grad) < 3 * NEAR


def test_sums_and_biases(device: torch.device) -> None:
    values = torch.randn(1031, 77, device=device)
    assert distance(sum_rows(values, torch.float32), values.double().sum(0)) < 1e-5
    stacks, out = torch.randn(3, 700, 90, device=device), torch.zeros(3, 50, device=device)
    sum_stacks(stacks[:, :, 20:60], out[:, :40])
    assert distance(out[:, :40], stacks[:, :, 20:60].double().sum(1)) < 1e-5
    assert not out[:, 40:].any()
    x = (
        torch.randn(9, 40, 7, 5, device=device)
        .bfloat16()
        .contiguous(memory_format=torch.channels_last)
    )
    bias, b64 = draw(device, 40)
    assert distance(add_bias(x, x, bias), 2 * x.double() + b64.view(-1, 1, 1)) < NEAR
    assert distance(sum_pixels(x, torch.float32), x.double().sum((0, 2, 3))) < 1e-4


@pytest.mark.parametrize(("images", "tokens"), [(1, 1), (3, 49), (50, 64), (2, 200)])
@pytest.mark.parametrize(("values", "width"), [(4, 24), (16, 384), (48, 768), (75, 100)])
def test_what_a_transformer_begins_with(
    device: torch.device, images: int, tokens: int, values: int, width: int
) -> None:
    (patches, p64), (weight, w64) = (
        draw(device, images, tokens, values),
        draw(device, width, values),
    )
    (bias, b64), (context, c64) = draw(device, width), draw(device, images, width)
    position, at64 = draw(device, 1, tokens, width)
    wanted = F.linear(p64, w64, b64) + c64[:, None] + at64
    assert distance(begin(patches, weight, bias, context, position), wanted) < NEAR


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
def test_adamw(device: torch.device, kind: torch.dtype) -> None:
    weights = torch.randn(100_003, device=device)
    exact = weights.double().requires_grad_()
    optimizer = torch.optim.AdamW([exact], lr=1e-2, weight_decay=0.1)
    first, second = torch.zeros_like(weights), torch.zeros_like(weights)
    copy = torch.empty_like(weights, dtype=torch.bfloat16)
    rate, step = torch.tensor(1e-2, device=device), torch.zeros((), device=device)
    for power in range(-6, 4):
        gradient = (torch.randn_like(weights) * 10.0**power).to(kind)
        exact.grad = gradient.double()
        optimizer.step()
        step += 1
        settings = (0.9, 0.999), 1e-8, 0.1
        adamw(weights, gradient, first, second, copy, rate, step, *settings)
        torch.testing.assert_close(weights.double(), exact.detach(), atol=2e-6, rtol=2e-6)
        assert torch.equal(copy, weights.bfloat16())


def has_fp8() -> bool:
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 9)


fp8 = pytest.mark.skipif(not has_fp8(), reason="this GPU has no FP8")


def how(device: torch.device, factor: float) -> Cast:
    one = torch.full((1,), factor, device=device)
    return Cast(one, torch.zeros(1, dtype=torch.int32, device=device))


@fp8
def test_casts_to_e4m3(device: torch.device) -> None:
    """To the bit as PyTorch's, saturated and counted; NaN stays."""
    x = (torch.randn(100_003, device=device) * 100).bfloat16()
    x[:3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    scaled = x.float() * 4
    count = how(device, 4.0)
    found = cast(x, count).float()
    wanted = scaled.clamp(-448, 448).to(torch.float8_e4m3fn).float()
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
    assert count.saturated.item() == (scaled.abs() > 448).sum().item()


@fp8
@pytest.mark.parametrize("gelu", [True, False])
@pytest.mark.parametrize(
    ("rows", "inner", "outer"), [(1, 16, 16), (129, 144, 160), (4097, 384, 2048), (300, 768, 3072)]
)
def test_linear_in_e4m3(
    device: torch.device, rows: int, inner: int, outer: int, gelu: bool
) -> None:
    x = torch.randn(rows, inner, device=device).to(torch.float8_e4m3fn)
    weight = torch.randn(outer, inner, device=device).to(torch.float8_e4m3fn)
    bias, _ = draw(device, outer)
    scale = torch.full((1,), 1 / inner**0.5, device=device)
    wanted = F.linear(x.double(), weight.double()) * scale + bias.double()
    wanted = F.gelu(wanted) if gelu else wanted.relu()
    found = linear_activate(x, weight, bias, scale, gelu, how(device, 16.0))
    # Three bits of mantissa.
    assert distance(found.double() / 16, wanted) < 0.04
    assert (found.double() / 16 - wanted).abs().max() <= wanted.abs().max() / 8


@fp8
@pytest.mark.parametrize("rows", [1, 7, 4097])
@pytest.mark.parametrize("width", [24, 384, 1025])
def test_norms_in_e4m3_as_well(device: torch.device, rows: int, width: int) -> None:
    """What is cast is the norm before it is rounded; what is beyond is counted."""
    (x, x64), (y, y64) = draw(device, rows, width), draw(device, rows, width)
    (weight, w64), (bias, b64) = draw(device, width), draw(device, width)
    out, count = torch.empty_like(x, dtype=torch.float8_e4m3fn), how(device, 128.0)
    found = add_norm(x, y, weight, bias, 1e-5, cast_out=out, how=count)
    assert found.equal(add_norm(x, y, weight, bias, 1e-5))
    scaled = F.layer_norm(x64 + y64, (width,), w64, b64) * 128
    assert distance(out.double(), scaled.clamp(-448, 448)) < 0.04
    beyond = (scaled.abs() > 448).sum().item()
    assert count.saturated.item() == pytest.approx(beyond, rel=0.01, abs=2)


def test_weights_are_rounded_to_e4m3_as_well_as_on_a_cpu(device: torch.device) -> None:
    """One value that is half-way but for rounding changes those after it: errors are compared."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(96, 200, generator=generator) for _ in range(3)]
    x = torch.randn(2000, 50, generator=generator) @ torch.randn(50, 200, generator=generator)
    cpu, errors = torch.device("cpu"), []
    for on in (device, cpu):
        seen = Covariance(200, on)
        seen.add(x.to(on))
        found = rounded_in_order([w.to(on) for w in weights], [0.01] * 3, [seen.value] * 3)
        errors.append([values.cpu() for values in found])
    errors.append([rounded(weight, 0.01) for weight in weights])
    on_gpu, on_cpu, nearest = (
        torch.stack(
            [(x @ (v.float() * 0.01 - w).T).var() for v, w in zip(found, weights, strict=True)]
        ).sum()
        for found in errors
    )
    assert abs(on_gpu / on_cpu - 1) < 0.05
    assert on_gpu < nearest / 2
