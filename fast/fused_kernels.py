"""Experiments that the package has not: a linear layer with residual and LayerNorm in its epilogue,
bf16 or e4m3 in, and a bf16 linear layer with exact GELU. Adopt what the numbers say."""
from __future__ import annotations
import torch, triton
import triton.language as tl
from flowquant.models.kernels.activation import normal
from flowquant.models.kernels.cast import to_e4m3


@triton.jit
def _linear_norm(x, weight, bias, scale, residual, gamma, beta, out, cast_out, inverse, saturated, rows, inner, eps,
                 WIDTH: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr, INNER: tl.constexpr, SCALED: tl.constexpr, CAST: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column, k = tl.arange(0, PADDED), tl.arange(0, INNER)
    left = x + (row % rows)[:, None].to(tl.int64) * inner + k[None, :]
    right = weight + (column % WIDTH)[:, None] * inner + k[None, :]
    total = tl.zeros((ROWS, PADDED), tl.float32)
    for start in range(0, inner, INNER):
        total = tl.dot(tl.load(left), tl.trans(tl.load(right)), total)
        left += INNER
        right += INNER
    there = column < WIDTH
    inside = (row[:, None] < rows) & there[None, :]
    place = row[:, None].to(tl.int64) * WIDTH + column[None, :]
    if SCALED:
        total *= tl.load(scale)
    total += tl.load(bias + column, mask=there, other=0.0).to(tl.float32)[None, :]
    total += tl.load(residual + place, mask=inside, other=0.0).to(tl.float32)
    total = tl.where(there[None, :], total, 0.0)
    mean = tl.sum(total, 1) / WIDTH
    centred = tl.where(there[None, :], total - mean[:, None], 0.0)
    spread = tl.rsqrt(tl.sum(centred * centred, 1) / WIDTH + eps)
    normed = centred * spread[:, None] * tl.load(gamma + column, mask=there, other=0.0).to(tl.float32)[None, :]
    normed += tl.load(beta + column, mask=there, other=0.0).to(tl.float32)[None, :]
    tl.store(out + place, normed.to(out.dtype.element_ty), mask=inside)
    if CAST:
        tl.store(cast_out + place, to_e4m3(normed, inverse, saturated, inside), mask=inside)


def linear_norm(x, weight, bias, residual, gamma, beta, tile, scale=None, cast_out=None, how=None):
    width, inner = weight.shape
    rows = x.numel() // inner
    out = torch.empty_like(residual)
    high, deep, warps, stages = tile
    assert inner % deep == 0
    _linear_norm[(triton.cdiv(rows, high),)](
        x, weight, bias, scale, residual, gamma, beta, out, cast_out, None if how is None else how.inverse,
        None if how is None else how.saturated, rows, inner, 1e-5, WIDTH=width, PADDED=triton.next_power_of_2(width),
        ROWS=high, INNER=deep, SCALED=scale is not None, CAST=how is not None, num_warps=warps, num_stages=stages)
    return out


@triton.jit
def _linear_gelu(x, weight, bias, out, rows, columns, inner, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr):
    across = tl.cdiv(columns, COLUMNS)
    row = tl.program_id(0) // across * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % across * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, INNER)
    left = x + (row % rows)[:, None].to(tl.int64) * inner + k[None, :]
    right = weight + (column % columns)[:, None] * inner + k[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, inner, INNER):
        total = tl.dot(tl.load(left), tl.trans(tl.load(right)), total)
        left += INNER
        right += INNER
    value = total + tl.load(bias + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    below, _ = normal(value)
    inside = (row[:, None] < rows) & (column[None, :] < columns)
    tl.store(out + row[:, None].to(tl.int64) * columns + column[None, :], (value * below).to(out.dtype.element_ty), mask=inside)


def linear_gelu(x, weight, bias, tile):
    columns, inner = weight.shape
    rows = x.numel() // inner
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    high, wide, deep, warps, stages = tile
    _linear_gelu[(triton.cdiv(rows, high) * triton.cdiv(columns, wide),)](
        x, weight, bias, out, rows, columns, inner, ROWS=high, COLUMNS=wide, INNER=deep, num_warps=warps, num_stages=stages)
    return out
