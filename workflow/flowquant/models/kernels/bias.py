"""The sum of two stacks of images and a bias, channels last, and the bias's gradient."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from flowquant.models.kernels.sums import sum_rows


@triton.jit
def _add_bias(x, y, bias, out, count, channels, VALUES: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * VALUES + tl.arange(0, VALUES)
    inside = place < count
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(y + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + place % channels, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _partial_sums(x, out, rows, columns, each, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    first = tl.program_id(0) * each
    last = tl.minimum(first + each, rows)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(first, last, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row[:, None] < last) & (column[None, :] < columns)
        place = row[:, None].to(tl.int64) * columns + column[None, :]
        total += tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + tl.program_id(0) * columns + column, tl.sum(total, 0), mask=column < columns)


# Values of a program that adds; rows and columns of a tile that sums, and programs beside another.
VALUES, TILE, PROGRAMS = 4096, (64, 64), 256


def add_bias(x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
    """x + y + bias, in float32 inside: images [B, C, H, W] of one type, channels last, and [C]."""
    out = torch.empty_like(x)
    grid = (triton.cdiv(x.numel(), VALUES),)
    _add_bias[grid](x, y, bias, out, x.numel(), x.shape[1], VALUES=VALUES, num_warps=8)
    return out


def sum_pixels(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum over images and pixels of [B, C, H, W], channels last, in a fixed order → [C]."""
    columns = x.shape[1]
    rows = x.numel() // columns
    high, wide = TILE
    each = triton.cdiv(triton.cdiv(rows, PROGRAMS), high) * high
    programs = triton.cdiv(rows, each)
    sums = torch.empty(programs, columns, dtype=torch.float32, device=x.device)
    grid = (programs, triton.cdiv(columns, wide))
    _partial_sums[grid](x, sums, rows, columns, each, ROWS=high, COLUMNS=wide)
    return sum_rows(sums, dtype)
