"""ReLU or GELU with dropout in one pass, and its gradient."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from flowquant.kernels.dropout import kept_tile
from flowquant.kernels.sums import sum_rows


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
    value = value * kept_tile(tl.load(seeds), counter, dropout) / (1 - dropout)
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
        slope *= kept_tile(tl.load(seeds), counter, dropout)
    else:
        slope = tl.where(value > 0, 1.0, 0.0)
    passed = arrived * slope / (1 - dropout)
    tl.store(out + place, passed.to(out.dtype.element_ty), mask=inside)
    place = tl.program_id(0) * WIDTH + column
    tl.store(sums + place, tl.sum(passed, 0), mask=column < WIDTH)


TILE_ROWS, TILE_COLUMNS, TILE_WARPS = 64, 64, 4


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
        num_warps=TILE_WARPS,
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
        num_warps=TILE_WARPS,
    )
    return out, sum_rows(sums, grad.dtype)
