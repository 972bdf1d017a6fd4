"""ReLU or GELU with dropout in one pass, and its gradient."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from flowquant.models.kernels.dropout import kept_tile


@triton.jit
def normal(x):
    """Φ(x), within 3e-7, and exp(−x²/2), which both halves of GELU need.

    Abramowitz & Stegun 7.1.26: one exponential and one division, a third of `erf`'s time.
    """
    bell = tl.exp(-0.5 * x * x)
    t = 1 / (1 + 0.2316419 * tl.abs(x))
    tail = t * (
        0.127414796
        + t * (-0.142248368 + t * (0.7107068705 + t * (-0.7265760135 + t * 0.5307027145)))
    )
    return tl.where(x < 0, tail * bell, 1 - tail * bell), bell


@triton.jit
def _activate(
    x,
    out,
    kept_out,
    seeds,
    rows,
    dropout,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    GELU: tl.constexpr,
    DROP: tl.constexpr,
):
    """dropout(ReLU(x)) or dropout(GELU(x)) of a tile of [rows, WIDTH]."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
    place = row[:, None].to(tl.int64) * WIDTH + column[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    if GELU:
        below, _ = normal(value)
        value = value * below
    else:
        value = tl.maximum(value, 0.0)
    if DROP:
        counter = tl.program_id(1) * (COLUMNS // 8) + tl.arange(0, COLUMNS // 8)
        counter = row[:, None] * ((WIDTH + 7) // 8) + counter[None, :]
        kept = kept_tile(tl.load(seeds), counter, dropout)
        value = value * kept / (1 - dropout)
        if GELU:
            tl.store(kept_out + place, kept.to(tl.int8), mask=inside)
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _activate_backward(
    x,
    grad,
    out,
    sums,
    kept_in,
    rows,
    dropout,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    GELU: tl.constexpr,
    DROP: tl.constexpr,
):
    """x is what went in for GELU, and what came out for ReLU: where that is 0, so is the slope."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
    place = row[:, None].to(tl.int64) * WIDTH + column[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    arrived = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    if GELU:
        slope, bell = normal(value)
        slope += value * 0.3989422804014327 * bell
        if DROP:
            slope *= tl.load(kept_in + place, mask=inside, other=0).to(tl.float32)
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


def activate(
    x: Tensor,
    gelu: bool,
    dropout: float,
    seed: Tensor,
    kept: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """dropout(GELU(x)), exact, or dropout(ReLU(x)); contiguous [..., F].

    With GELU, ``kept`` int8 [..., F] is where to keep what the dropout kept for the backward pass;
    with ReLU, the output tells. The result is written to ``out``, if given, which may be x.
    """
    out = torch.empty_like(x) if out is None else out
    rows, width, grid = _tiles(x)
    _activate[grid](
        *(x, out, kept, seed, rows, dropout),
        WIDTH=width,
        ROWS=TILE_ROWS,
        COLUMNS=TILE_COLUMNS,
        GELU=gelu,
        DROP=dropout > 0,
        num_warps=TILE_WARPS,
    )
    return out


def activation_sums(rows: int) -> int:
    """How many partial sums over so many rows `activate_backward` makes."""
    return triton.cdiv(rows, TILE_ROWS)


def activate_backward(
    saved: Tensor,
    grad: Tensor,
    gelu: bool,
    dropout: float,
    kept: Tensor | None = None,
    out: Tensor | None = None,
    sums: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The gradient of `activate`, [..., F], and partial sums over its rows, float32 [P, F].

    ``saved`` is the input for GELU, the output for ReLU; ``kept`` is what `activate` wrote. Results
    are written to ``out``, which may be the gradient, and ``sums``, if given.
    """
    out = torch.empty_like(grad) if out is None else out
    rows, width, grid = _tiles(grad)
    sums = grad.new_empty(grid[0], width, dtype=torch.float32) if sums is None else sums
    _activate_backward[grid](
        *(saved, grad, out, sums, kept, rows, dropout),
        WIDTH=width,
        ROWS=TILE_ROWS,
        COLUMNS=TILE_COLUMNS,
        GELU=gelu,
        DROP=dropout > 0,
        num_warps=TILE_WARPS,
    )
    return out, sums
