"""Triton kernels for encoder layers: attention over few tokens, residual + LayerNorm, activation.

All are bound by memory or by random numbers, so each reads its inputs once, writes its outputs
once, and makes four random numbers at a time. Dropout masks are functions of (seed, position): the
backward pass makes them again. A dropout of 0 makes none. Backward passes also sum their gradients
over rows, in a fixed order, for the bias of the linear layer before them.
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
    # Seven rounds are the fewest that Philox's authors found to pass every test of randomness.
    a, b, c, d = tl.rand4x(seed, place, n_rounds=7)
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
    sums,
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
    """Gradient of `_attention`: grad [B, N, H, d] → out [B, N, 3, H, d], and its sums over N."""
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
    there = batch * 3 * width + head * SIZE + column
    valid = row[:, None] < tokens
    inside = column < SIZE
    tl.store(sums + there, tl.sum(tl.where(valid, of_query, 0.0), 0), mask=inside)
    tl.store(sums + there + width, tl.sum(tl.where(valid, of_key, 0.0), 0), mask=inside)
    tl.store(sums + there + 2 * width, tl.sum(tl.where(valid, of_value, 0.0), 0), mask=inside)


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
) -> tuple[Tensor, Tensor]:
    """The gradient of `attention`: of its output → of qkv [B, N, 3·D], and its row sum [3·D]."""
    tokens, scale, constants = _attention_sizes(qkv, heads)
    out = torch.empty_like(qkv)
    sums = torch.empty(len(qkv), qkv.shape[2], dtype=torch.float32, device=qkv.device)
    _attention_backward[(len(qkv) * heads,)](
        *(qkv, grad, out, sums, seed, tokens, scale, dropout),
        **constants,
        DROP=dropout > 0,
        num_warps=4,
    )
    return out, sum_rows(sums, qkv.dtype)


@triton.jit
def _sum_rows(x, out, rows, columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, rows, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row[:, None] < rows) & (column[None, :] < columns)
        total += tl.load(x + row[:, None] * columns + column[None, :], mask=inside, other=0.0)
    tl.store(out + column, tl.sum(total, 0).to(out.dtype.element_ty), mask=column < columns)


def sum_rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum over rows of float32 [R, C], in a fixed order → [C]."""
    rows, columns = x.shape
    out = torch.empty(columns, dtype=dtype, device=x.device)
    _sum_rows[(triton.cdiv(columns, 32),)](x, out, rows, columns, ROWS=64, COLUMNS=32, num_warps=4)
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
    sums,
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
    sum_branch = tl.zeros((PADDED,), tl.float32)
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
        sum_branch += tl.sum(tl.where(inside, passed, 0.0), 0)
    place = program * 3 * WIDTH + column
    tl.store(sums + place, sum_weight, mask=column < WIDTH)
    tl.store(sums + place + WIDTH, sum_bias, mask=column < WIDTH)
    tl.store(sums + place + 2 * WIDTH, sum_branch, mask=column < WIDTH)


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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradient of `add_norm`: of its output → of x, y [..., D], weight and bias [D].

    Last of all the row sum of y's gradient, [D].
    """
    width = total.shape[-1]
    rows, each = total.numel() // width, 4
    programs = min(264, triton.cdiv(rows, each))
    of_x = torch.empty_like(total)
    of_y = torch.empty_like(total) if dropout > 0 else of_x
    sums = torch.empty(programs, 3 * width, dtype=torch.float32, device=total.device)
    _add_norm_backward[(programs,)](
        *(total, grad, weight, of_x, of_y, sums, seed, rows, eps, dropout),
        WIDTH=width,
        PADDED=triton.next_power_of_2(width),
        ROWS=each,
        DROP=dropout > 0,
        num_warps=4,
    )
    of_weight, of_bias, of_branch = sum_rows(sums, weight.dtype).view(3, width)
    return of_x, of_y, of_weight, of_bias, of_branch


@triton.jit
def _activate(
    x,
    out,
    seeds,
    rows,
    dropout,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    GELU: tl.constexpr,
):
    """dropout(ReLU(x)) or dropout(GELU(x)) of a tile of [rows, WIDTH]."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
    place = row[:, None].to(tl.int64) * WIDTH + column[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if GELU:
        value = 0.5 * value * (1 + tl.erf(value * 0.7071067811865476))
    else:
        value = tl.maximum(value, 0.0)
    counter = tl.program_id(1) * (COLUMNS // 4) + tl.arange(0, COLUMNS // 4)
    counter = row[:, None] * ((WIDTH + 3) // 4) + counter[None, :]
    value = value * _kept(tl.load(seeds), counter, dropout) / (1 - dropout)
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _activate_backward(
    x,
    grad,
    out,
    sums,
    seeds,
    rows,
    dropout,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    GELU: tl.constexpr,
):
    """x is what went in for GELU, and what came out for ReLU: where that is 0, so is the slope."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
    place = row[:, None].to(tl.int64) * WIDTH + column[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    arrived = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    if GELU:
        slope = 0.5 * (1 + tl.erf(value * 0.7071067811865476))
        slope += value * 0.3989422804014327 * tl.exp(-0.5 * value * value)
        counter = tl.program_id(1) * (COLUMNS // 4) + tl.arange(0, COLUMNS // 4)
        counter = row[:, None] * ((WIDTH + 3) // 4) + counter[None, :]
        slope *= _kept(tl.load(seeds), counter, dropout)
    else:
        slope = tl.where(value > 0, 1.0, 0.0)
    passed = arrived * slope / (1 - dropout)
    tl.store(out + place, passed.to(out.dtype.element_ty), mask=inside)
    place = tl.program_id(0) * WIDTH + column
    tl.store(sums + place, tl.sum(passed, 0), mask=column < WIDTH)


TILE_ROWS, TILE_COLUMNS = 32, 128


def _tiles(x: Tensor) -> tuple[int, int, tuple[int, int]]:
    width = x.shape[-1]
    rows = x.numel() // width
    return rows, width, (triton.cdiv(rows, TILE_ROWS), triton.cdiv(width, TILE_COLUMNS))


def activate(x: Tensor, gelu: bool, dropout: float, seed: Tensor) -> Tensor:
    """dropout(GELU(x)), exact, or dropout(ReLU(x)); contiguous [..., F]."""
    out = torch.empty_like(x)
    rows, width, grid = _tiles(x)
    _activate[grid](
        *(x, out, seed, rows, dropout),
        WIDTH=width,
        ROWS=TILE_ROWS,
        COLUMNS=TILE_COLUMNS,
        GELU=gelu,
        num_warps=4,
    )
    return out


def activate_backward(
    saved: Tensor, grad: Tensor, gelu: bool, dropout: float, seed: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient of `activate`, [..., F], and its row sum [F].

    ``saved`` is the input for GELU, the output for ReLU.
    """
    out = torch.empty_like(grad)
    rows, width, grid = _tiles(grad)
    sums = torch.empty(grid[0], width, dtype=torch.float32, device=grad.device)
    _activate_backward[grid](
        *(saved, grad, out, sums, seed, rows, dropout),
        WIDTH=width,
        ROWS=TILE_ROWS,
        COLUMNS=TILE_COLUMNS,
        GELU=gelu,
        num_warps=4,
    )
    return out, sum_rows(sums, grad.dtype)
