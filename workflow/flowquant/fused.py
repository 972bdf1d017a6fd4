"""Encoder layers for inference on a GPU, in seven kernels each.

Four matrix products with their biases (and ReLU) at their ends, and two kernels of our own:
attention over few tokens, and residual + LayerNorm. Both read each input once and write each
output once, which is what they are bound by; attention made for long sequences idles on tens of
tokens.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor, nn

from flowquant.network import EncoderLayer

# The attention kernel holds all tokens of an image at once.
MOST_TOKENS = 128


@triton.jit
def _attention(
    qkv,
    out,
    tokens,
    scale,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    PADDED: tl.constexpr,
):
    """One program: one head of one image. qkv [B, N, 3, H, d] → out [B, N, H, d]."""
    batch = tl.program_id(0) // HEADS
    head = tl.program_id(0) % HEADS
    width = HEADS * SIZE
    row = tl.arange(0, TOKENS)
    column = tl.arange(0, PADDED)
    inside = (row[:, None] < tokens) & (column[None, :] < SIZE)
    start = batch.to(tl.int64) * tokens * 3 * width + head * SIZE
    place = start + row[:, None] * 3 * width + column[None, :]
    query = tl.load(qkv + place, mask=inside, other=0.0)
    key = tl.load(qkv + place + width, mask=inside, other=0.0)
    value = tl.load(qkv + place + 2 * width, mask=inside, other=0.0)
    scores = tl.dot(query, tl.trans(key)) * scale
    scores = tl.where(row[None, :] < tokens, scores, float("-inf"))
    scores = tl.exp(scores - tl.max(scores, 1)[:, None])
    weights = scores / tl.sum(scores, 1)[:, None]
    mixed = tl.dot(weights.to(value.dtype), value)
    target = batch.to(tl.int64) * tokens * width + head * SIZE
    place = target + row[:, None] * width + column[None, :]
    tl.store(out + place, mixed.to(out.dtype.element_ty), mask=inside)


def attention(qkv: Tensor, heads: int) -> Tensor:
    """softmax(Q·Kᵀ/√d)·V for each head.

    Args:
        qkv: Queries, keys and values side by side, contiguous [B, N, 3·D], N ≤ 128.
        heads: H, a divisor of D.

    Returns:
        [B, N, D] of the same type.
    """
    batch, tokens, triple = qkv.shape
    width = triple // 3
    out = torch.empty(batch, tokens, width, dtype=qkv.dtype, device=qkv.device)
    _attention[(batch * heads,)](
        qkv,
        out,
        tokens,
        (width // heads) ** -0.5,
        HEADS=heads,
        SIZE=width // heads,
        TOKENS=max(16, triton.next_power_of_2(tokens)),
        PADDED=max(16, triton.next_power_of_2(width // heads)),
        num_warps=4,
    )
    return out


@triton.jit
def _add_norm(
    x,
    y,
    weight,
    bias,
    out,
    rows,
    eps,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PADDED)
    inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
    place = row[:, None].to(tl.int64) * WIDTH + column[None, :]
    total = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(y + place, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(total, 1) / WIDTH
    centred = tl.where(column[None, :] < WIDTH, total - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, 1) / WIDTH
    scale = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    shift = tl.load(bias + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    normed = centred * tl.rsqrt(variance + eps)[:, None] * scale[None, :] + shift[None, :]
    tl.store(out + place, normed.to(out.dtype.element_ty), mask=inside)


def add_norm(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """LayerNorm(x + y) over the last axis, in float32 inside; contiguous [..., D] → [..., D]."""
    out = torch.empty_like(x)
    width = x.shape[-1]
    rows = x.numel() // width
    per_program = 4
    _add_norm[(triton.cdiv(rows, per_program),)](
        x,
        y,
        weight,
        bias,
        out,
        rows,
        eps,
        WIDTH=width,
        PADDED=triton.next_power_of_2(width),
        ROWS=per_program,
        num_warps=4,
    )
    return out


def encode(layer: EncoderLayer, x: Tensor) -> Tensor:
    """What `EncoderLayer.forward` computes, without dropout; x contiguous [B, N, D] → the same."""
    attend = layer.self_attn
    mixed = attend.out_proj(attention(attend.project(x), attend.heads))
    x = add_norm(x, mixed, layer.norm1.weight, layer.norm1.bias, layer.norm1.eps)
    if layer.activation is F.relu and isinstance(layer.linear1, nn.Linear):
        # `linear1` and ReLU by themselves are two passes over the widest activations.
        weight = layer.linear1.weight.t()
        hidden = torch._addmm_activation(layer.linear1.bias, x.flatten(0, -2), weight)
        hidden = hidden.view(*x.shape[:-1], -1)
    else:
        hidden = layer.activation(layer.linear1(x))
    y = layer.linear2(hidden)
    return add_norm(x, y, layer.norm2.weight, layer.norm2.bias, layer.norm2.eps)


def fuse(network: nn.Module) -> None:
    """Let the encoder layers of a network compute by `encode`: bfloat16, GPU, no gradients."""
    for module in network.modules():
        if isinstance(module, EncoderLayer):
            module.forward = partial(encode, module)  # type: ignore[method-assign]
