"""Triton kernels for encoder layers: attention over few tokens, residual + LayerNorm, activation.

All are bound by memory or by random numbers, so each reads its inputs once, writes its outputs
once, and makes four random numbers at a time. Dropout masks are functions of (seed, position): the
backward pass makes them again. A dropout of 0 makes none.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# The attention kernels hold all tokens of an image at once.
MOST_TOKENS = 128


@triton.jit
def _kept(seed, place, dropout):
    """Whether to keep each value: float 0 or 1 of a square tile, from four draws a counter.

    place [R, C / 4] numbers the counters; the tile is [R, C].
    """
    a, b, c, d = tl.rand4x(seed, place)
    draws = tl.reshape(tl.join(tl.join(a, b), tl.join(c, d)), (place.shape[0], place.shape[1] * 4))
    return (draws >= dropout).to(tl.float32)


@triton.jit
def _weights(query, key, row, tokens, scale):
    """softmax(Q·Kᵀ·scale) over the tokens there are, float32 [T, T]."""
    scores = tl.dot(query, tl.trans(key)) * scale
    scores = tl.where(row[None, :] < tokens, scores, float("-inf"))
    scores = tl.exp(scores - tl.max(scores, 1)[:, None])
    return scores / tl.sum(scores, 1)[:, None]


@triton.jit
def _attention(
    qkv,
    out,
    seeds,
    tokens,
    scale,
    dropout,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    PADDED: tl.constexpr,
    DROP: tl.constexpr,
):
    """One program: one head of one image. qkv [B, N, 3, H, d] → out [B, N, H, d]."""
    program = tl.program_id(0)
    batch, head = (program // HEADS).to(tl.int64), program % HEADS
    width = HEADS * SIZE
    row, column = tl.arange(0, TOKENS), tl.arange(0, PADDED)
    inside = (row[:, None] < tokens) & (column[None, :] < SIZE)
    place = batch * tokens * 3 * width + head * SIZE + row[:, None] * 3 * width + column[None, :]
    query = tl.load(qkv + place, mask=inside, other=0.0)
    key = tl.load(qkv + place + width, mask=inside, other=0.0)
    value = tl.load(qkv + place + 2 * width, mask=inside, other=0.0)
    weights = _weights(query, key, row, tokens, scale)
    if DROP:
        counter = (program * TOKENS + row[:, None]) * (TOKENS // 4)
        counter += tl.arange(0, TOKENS // 4)[None, :]
        weights = weights * _kept(tl.load(seeds), counter, dropout) / (1 - dropout)
    mixed = tl.dot(weights.to(value.dtype), value)
    place = batch * tokens * width + head * SIZE + row[:, None] * width + column[None, :]
    tl.store(out + place, mixed.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _attention_backward(
    qkv,
    grad,
    out,
    seeds,
    tokens,
    scale,
    dropout,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    PADDED: tl.constexpr,
    DROP: tl.constexpr,
):
    """Gradient of `_attention`: grad [B, N, H, d] → out, of qkv [B, N, 3, H, d]."""
    program = tl.program_id(0)
    batch, head = (program // HEADS).to(tl.int64), program % HEADS
    width = HEADS * SIZE
    row, column = tl.arange(0, TOKENS), tl.arange(0, PADDED)
    inside = (row[:, None] < tokens) & (column[None, :] < SIZE)
    place = batch * tokens * 3 * width + head * SIZE + row[:, None] * 3 * width + column[None, :]
    query = tl.load(qkv + place, mask=inside, other=0.0)
    key = tl.load(qkv + place + width, mask=inside, other=0.0)
    value = tl.load(qkv + place + 2 * width, mask=inside, other=0.0)
    there = batch * tokens * width + head * SIZE + row[:, None] * width + column[None, :]
    mixed = tl.load(grad + there, mask=inside, other=0.0)
    weights = _weights(query, key, row, tokens, scale)
    through = tl.dot(mixed, tl.trans(value))
    dropped = weights
    if DROP:
        counter = (program * TOKENS + row[:, None]) * (TOKENS // 4)
        counter += tl.arange(0, TOKENS // 4)[None, :]
        kept = _kept(tl.load(seeds), counter, dropout) / (1 - dropout)
        dropped = weights * kept
        through = through * kept
    scores = weights * (through - tl.sum(through * weights, 1)[:, None]) * scale
    scores = scores.to(query.dtype)
    of_query = tl.dot(scores, key)
    of_key = tl.dot(tl.trans(scores), query)
    of_value = tl.dot(tl.trans(dropped.to(mixed.dtype)), mixed)
    kind = out.dtype.element_ty
    tl.store(out + place, of_query.to(kind), mask=inside)
    tl.store(out + place + width, of_key.to(kind), mask=inside)
    tl.store(out + place + 2 * width, of_value.to(kind), mask=inside)


def _attention_sizes(qkv: Tensor, heads: int) -> tuple[int, float, dict[str, int]]:
    tokens, size = qkv.shape[1], qkv.shape[2] // 3 // heads
    constants = {
        "HEADS": heads,
        "SIZE": size,
        "TOKENS": max(16, triton.next_power_of_2(tokens)),
        "PADDED": max(16, triton.next_power_of_2(size)),
    }
    return tokens, size**-0.5, constants


def attention(qkv: Tensor, heads: int, dropout: float = 0.0, seed: Tensor | None = None) -> Tensor:
    """dropout(softmax(Q·Kᵀ/√d))·V for each head.

    Args:
        qkv: Queries, keys and values side by side, contiguous [B, N, 3·D], N ≤ 128.
        heads: H, a divisor of D.
        dropout: Of attention weights.
        seed: Of the dropout, int64 [1] on the device.

    Returns:
        [B, N, D] of the same type.
    """
    tokens, scale, constants = _attention_sizes(qkv, heads)
    out = qkv.new_empty(len(qkv), tokens, qkv.shape[2] // 3)
    _attention[(len(qkv) * heads,)](
        qkv, out, seed, tokens, scale, dropout, **constants, DROP=dropout > 0, num_warps=4
    )
    return out


def attention_backward(
    qkv: Tensor, grad: Tensor, heads: int, dropout: float = 0.0, seed: Tensor | None = None
) -> Tensor:
    """The gradient of `attention`: of its output [B, N, D] → of qkv [B, N, 3·D]."""
    tokens, scale, constants = _attention_sizes(qkv, heads)
    out = torch.empty_like(qkv)
    _attention_backward[(len(qkv) * heads,)](
        qkv, grad, out, seed, tokens, scale, dropout, **constants, DROP=dropout > 0, num_warps=4
    )
    return out


@triton.jit
def _add_norm(
    x,
    y,
    weight,
    bias,
    out,
    total_out,
    seeds,
    rows,
    eps,
    dropout,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    DROP: tl.constexpr,
    KEEP_SUM: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PADDED)
    inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
    place = row[:, None].to(tl.int64) * WIDTH + column[None, :]
    branch = tl.load(y + place, mask=inside, other=0.0).to(tl.float32)
    if DROP:
        counter = row[:, None] * (PADDED // 4) + tl.arange(0, PADDED // 4)[None, :]
        branch = branch * _kept(tl.load(seeds), counter, dropout) / (1 - dropout)
    total = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) + branch
    if KEEP_SUM:
        tl.store(total_out + place, total.to(total_out.dtype.element_ty), mask=inside)
    mean = tl.sum(total, 1) / WIDTH
    centred = tl.where(column[None, :] < WIDTH, total - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, 1) / WIDTH
    scale = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    shift = tl.load(bias + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    normed = centred * tl.rsqrt(variance + eps)[:, None] * scale[None, :] + shift[None, :]
    tl.store(out + place, normed.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _add_norm_backward(
    total_in,
    grad,
    weight,
    of_x,
    of_y,
    of_weight,
    of_bias,
    seeds,
    rows,
    eps,
    dropout,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    DROP: tl.constexpr,
):
    program, programs = tl.program_id(0), tl.num_programs(0)
    column = tl.arange(0, PADDED)
    scale = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    sum_weight = tl.zeros((PADDED,), tl.float32)
    sum_bias = tl.zeros((PADDED,), tl.float32)
    for start in range(program * ROWS, rows, programs * ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
        place = row[:, None].to(tl.int64) * WIDTH + column[None, :]
        total = tl.load(total_in + place, mask=inside, other=0.0).to(tl.float32)
        mean = tl.sum(total, 1) / WIDTH
        centred = tl.where(inside, total - mean[:, None], 0.0)
        spread = tl.rsqrt(tl.sum(centred * centred, 1) / WIDTH + eps)
        normed = centred * spread[:, None]
        arrived = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
        sum_weight += tl.sum(arrived * normed, 0)
        sum_bias += tl.sum(arrived, 0)
        scaled = arrived * scale[None, :]
        first = tl.sum(scaled, 1) / WIDTH
        second = tl.sum(scaled * normed, 1) / WIDTH
        passed = (scaled - first[:, None] - normed * second[:, None]) * spread[:, None]
        tl.store(of_x + place, passed.to(of_x.dtype.element_ty), mask=inside)
        if DROP:
            counter = row[:, None] * (PADDED // 4) + tl.arange(0, PADDED // 4)[None, :]
            passed = passed * _kept(tl.load(seeds), counter, dropout) / (1 - dropout)
            tl.store(of_y + place, passed.to(of_y.dtype.element_ty), mask=inside)
    tl.store(of_weight + program * WIDTH + column, sum_weight, mask=column < WIDTH)
    tl.store(of_bias + program * WIDTH + column, sum_bias, mask=column < WIDTH)


def add_norm(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    total: Tensor | None = None,
) -> Tensor:
    """LayerNorm(x + dropout(y)) over the last axis, in float32 inside.

    Args:
        x: Residual, contiguous [..., D].
        y: Branch, contiguous [..., D].
        weight: Scale [D].
        bias: Shift [D].
        eps: Added to the variance.
        dropout: Of the branch.
        seed: Of the dropout, int64 [1] on the device.
        total: Where to keep x + dropout(y) for the backward pass, if anywhere.

    Returns:
        [..., D] of x's type.
    """
    out = torch.empty_like(x)
    width = x.shape[-1]
    rows, each = x.numel() // width, 4
    _add_norm[(triton.cdiv(rows, each),)](
        *(x, y, weight, bias, out, total, seed, rows, eps, dropout),
        WIDTH=width,
        PADDED=triton.next_power_of_2(width),
        ROWS=each,
        DROP=dropout > 0,
        KEEP_SUM=total is not None,
        num_warps=4,
    )
    return out


def add_norm_backward(
    total: Tensor,
    grad: Tensor,
    weight: Tensor,
    eps: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradient of `add_norm`: of x, y [..., D], weight and bias [D], from that of its output."""
    width = total.shape[-1]
    rows, each = total.numel() // width, 4
    programs = min(512, triton.cdiv(rows, each))
    of_x = torch.empty_like(total)
    of_y = torch.empty_like(total) if dropout > 0 else of_x
    sums = torch.empty(2, programs, width, dtype=torch.float32, device=total.device)
    _add_norm_backward[(programs,)](
        *(total, grad, weight, of_x, of_y, sums[0], sums[1], seed, rows, eps, dropout),
        WIDTH=width,
        PADDED=triton.next_power_of_2(width),
        ROWS=each,
        DROP=dropout > 0,
        num_warps=4,
    )
    of_weight, of_bias = sums.sum(1).to(weight.dtype)
    return of_x, of_y, of_weight, of_bias


@triton.jit
def _activate_part(x, out, place, values, draws, dropout, GELU: tl.constexpr):
    value = tl.load(x + place, mask=place < values, other=0.0).to(tl.float32)
    if GELU:
        value = 0.5 * value * (1 + tl.erf(value * 0.7071067811865476))
    else:
        value = tl.maximum(value, 0.0)
    value = tl.where(draws >= dropout, value / (1 - dropout), 0.0)
    tl.store(out + place, value.to(out.dtype.element_ty), mask=place < values)


@triton.jit
def _activate(x, out, seeds, values, dropout, BLOCK: tl.constexpr, GELU: tl.constexpr):
    """dropout(ReLU(x)) or dropout(GELU(x)), a block of four quarters, each with its draws."""
    quarter = tl.arange(0, BLOCK // 4)
    a, b, c, d = tl.rand4x(tl.load(seeds), tl.program_id(0) * (BLOCK // 4) + quarter)
    place = tl.program_id(0).to(tl.int64) * BLOCK + quarter
    _activate_part(x, out, place, values, a, dropout, GELU)
    _activate_part(x, out, place + BLOCK // 4, values, b, dropout, GELU)
    _activate_part(x, out, place + BLOCK // 2, values, c, dropout, GELU)
    _activate_part(x, out, place + 3 * BLOCK // 4, values, d, dropout, GELU)


@triton.jit
def _activate_part_backward(x, grad, out, place, values, draws, dropout, GELU: tl.constexpr):
    value = tl.load(x + place, mask=place < values, other=0.0).to(tl.float32)
    arrived = tl.load(grad + place, mask=place < values, other=0.0).to(tl.float32)
    if GELU:
        slope = 0.5 * (1 + tl.erf(value * 0.7071067811865476))
        slope += value * 0.3989422804014327 * tl.exp(-0.5 * value * value)
        slope = tl.where(draws >= dropout, slope, 0.0)
    else:
        slope = tl.where(value > 0, 1.0, 0.0)
    passed = arrived * slope / (1 - dropout)
    tl.store(out + place, passed.to(out.dtype.element_ty), mask=place < values)


@triton.jit
def _activate_backward(
    x, grad, out, seeds, values, dropout, BLOCK: tl.constexpr, GELU: tl.constexpr
):
    """x is what went in for GELU, and what came out for ReLU: where that is 0, so is the slope."""
    quarter = tl.arange(0, BLOCK // 4)
    a, b, c, d = tl.rand4x(tl.load(seeds), tl.program_id(0) * (BLOCK // 4) + quarter)
    place = tl.program_id(0).to(tl.int64) * BLOCK + quarter
    _activate_part_backward(x, grad, out, place, values, a, dropout, GELU)
    _activate_part_backward(x, grad, out, place + BLOCK // 4, values, b, dropout, GELU)
    _activate_part_backward(x, grad, out, place + BLOCK // 2, values, c, dropout, GELU)
    _activate_part_backward(x, grad, out, place + 3 * BLOCK // 4, values, d, dropout, GELU)


BLOCK = 4096


def activate(x: Tensor, gelu: bool, dropout: float, seed: Tensor) -> Tensor:
    """dropout(GELU(x)), exact, or dropout(ReLU(x)); contiguous, any shape."""
    out = torch.empty_like(x)
    grid = (triton.cdiv(x.numel(), BLOCK),)
    _activate[grid](x, out, seed, x.numel(), dropout, BLOCK=BLOCK, GELU=gelu, num_warps=8)
    return out


def activate_backward(
    saved: Tensor, grad: Tensor, gelu: bool, dropout: float, seed: Tensor
) -> Tensor:
    """The gradient of `activate`; ``saved`` is its input for GELU, its output for ReLU."""
    out = torch.empty_like(grad)
    grid = (triton.cdiv(grad.numel(), BLOCK),)
    _activate_backward[grid](
        saved, grad, out, seed, grad.numel(), dropout, BLOCK=BLOCK, GELU=gelu, num_warps=8
    )
    return out
