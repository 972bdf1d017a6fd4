"""Dropout, residual and LayerNorm in one pass, and its gradient."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from flowquant.models.kernels.cast import Cast, to_e4m3
from flowquant.models.kernels.dropout import kept_tile


@triton.jit
def _add_norm(
    x,
    y,
    weight,
    bias,
    out,
    total_out,
    kept_out,
    seeds,
    cast_out,
    inverse,
    saturated,
    rows,
    eps,
    dropout,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    SHARED: tl.constexpr,
    DROP: tl.constexpr,
    KEEP: tl.constexpr,
    CAST: tl.constexpr,
):
    # What was written last is still in the cache, and what is read next comes first.
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    row = program * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, PADDED)
    inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
    place = row[:, None].to(tl.int64) * WIDTH + column[None, :]
    if SHARED:
        branch = tl.load(y + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    else:
        branch = tl.load(y + place, mask=inside, other=0.0).to(tl.float32)
    if DROP:
        counter = row[:, None] * (PADDED // 8) + tl.arange(0, PADDED // 8)[None, :]
        kept = kept_tile(tl.load(seeds), counter, dropout)
        branch = branch * kept / (1 - dropout)
        if KEEP:
            tl.store(kept_out + place, kept.to(tl.int8), mask=inside)
    total = tl.load(x + place, mask=inside, other=0.0).to(tl.float32) + branch
    if KEEP:
        tl.store(total_out + place, total.to(total_out.dtype.element_ty), mask=inside)
    mean = tl.sum(total, 1) / WIDTH
    centred = tl.where(column[None, :] < WIDTH, total - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, 1) / WIDTH
    scale = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    shift = tl.load(bias + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    normed = centred * tl.rsqrt(variance + eps)[:, None] * scale[None, :] + shift[None, :]
    tl.store(out + place, normed.to(out.dtype.element_ty), mask=inside)
    if CAST:
        there = cast_out + place
        if WIDTH % 8 == 0:
            # As many at a time as of the rest: else values are exchanged between threads first.
            there = tl.multiple_of(there, (1, 8))
        tl.store(there, to_e4m3(normed, inverse, saturated, inside), mask=inside)


@triton.jit
def _add_norm_backward(
    total_in,
    grad,
    weight,
    of_x,
    of_y,
    sums,
    kept_in,
    rows,
    eps,
    dropout,
    WIDTH: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    STAGES: tl.constexpr,
    DROP: tl.constexpr,
    SPLIT: tl.constexpr,
):
    program, programs = tl.program_id(0), tl.num_programs(0)
    column = tl.arange(0, PADDED)
    scale = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    # Of each row of a tile: to sum over them here, once, is cheaper than at every turn.
    sum_weight = tl.zeros((ROWS, PADDED), tl.float32)
    sum_bias = tl.zeros((ROWS, PADDED), tl.float32)
    sum_branch = tl.zeros((ROWS, PADDED), tl.float32)
    for start in tl.range(program * ROWS, rows, programs * ROWS, num_stages=STAGES):
        row = start + tl.arange(0, ROWS)
        inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
        place = row[:, None].to(tl.int64) * WIDTH + column[None, :]
        total = tl.load(total_in + place, mask=inside, other=0.0).to(tl.float32)
        arrived = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
        mean = tl.sum(total, 1) / WIDTH
        centred = tl.where(inside, total - mean[:, None], 0.0)
        spread = tl.rsqrt(tl.sum(centred * centred, 1) / WIDTH + eps)
        normed = centred * spread[:, None]
        sum_weight += arrived * normed
        sum_bias += arrived
        scaled = arrived * scale[None, :]
        first = tl.sum(scaled, 1) / WIDTH
        second = tl.sum(scaled * normed, 1) / WIDTH
        passed = (scaled - first[:, None] - normed * second[:, None]) * spread[:, None]
        tl.store(of_x + place, passed.to(of_x.dtype.element_ty), mask=inside)
        if DROP:
            kept = tl.load(kept_in + place, mask=inside, other=0).to(tl.float32)
            passed = passed * kept / (1 - dropout)
        if SPLIT:
            tl.store(of_y + place, passed.to(of_y.dtype.element_ty), mask=inside)
        sum_branch += tl.where(inside, passed, 0.0)
    place = program * 3 * WIDTH + column
    tl.store(sums + place, tl.sum(sum_weight, 0), mask=column < WIDTH)
    tl.store(sums + place + WIDTH, tl.sum(sum_bias, 0), mask=column < WIDTH)
    tl.store(sums + place + 2 * WIDTH, tl.sum(sum_branch, 0), mask=column < WIDTH)


# Rows and warps of a program of widths up to 512 without dropout, and else. A warp that has rows to
# itself sums them without waiting for others.
NORM = (2, 1), (4, 4)


def add_norm(
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    total: Tensor | None = None,
    kept: Tensor | None = None,
    cast_out: Tensor | None = None,
    how: Cast | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """LayerNorm(x + dropout(y)) over the last axis, in float32 inside.

    Args:
        x: Residual, contiguous [..., D].
        y: Branch, contiguous [..., D]; or [D], the same for all rows, without dropout.
        weight: Scale [D].
        bias: Shift [D].
        eps: Added to the variance.
        dropout: Of the branch.
        seed: Of the dropout, int64 [1] on the device.
        total: Where to keep x + dropout(y) for the backward pass, if anywhere.
        kept: Where to keep which of y's values were kept, int8 [..., D], likewise.
        cast_out: Where to write the result as e4m3, too, if anywhere.
        how: It is cast.
        out: Where to write the result, contiguous; a new tensor, if omitted.

    Returns:
        [..., D] of x's type.
    """
    out = torch.empty_like(x) if out is None else out
    width = x.shape[-1]
    rows, (each, warps) = x.numel() // width, NORM[width > 512 or dropout > 0]
    _add_norm[(triton.cdiv(rows, each),)](
        *(x, y, weight, bias, out, total, kept, seed, cast_out),
        *(None if how is None else how.inverse, None if how is None else how.saturated),
        *(rows, eps, dropout),
        WIDTH=width,
        PADDED=triton.next_power_of_2(width),
        ROWS=each,
        SHARED=y.dim() < x.dim(),
        DROP=dropout > 0,
        KEEP=total is not None,
        CAST=how is not None,
        num_warps=warps,
    )
    return out


# Rows at a time, programs at most, warps, and tiles under way, of widths up to 512 and beyond.
# Of the narrower, a row to a warp keeps its sums in registers; four rows by four warps spilled.
BACKWARD_NORM = (1, 1056, 1, 1), (2, 528, 4, 1)


def norm_sums(rows: int, width: int) -> int:
    """How many partial sums over so many rows `add_norm_backward` makes."""
    each, most, _, _ = BACKWARD_NORM[width > 512]
    return min(most, triton.cdiv(rows, each))


def add_norm_backward(
    total: Tensor,
    grad: Tensor,
    weight: Tensor,
    eps: float,
    dropout: float = 0.0,
    kept: Tensor | None = None,
    of_y: Tensor | None = None,
    sums: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of `add_norm`: of its output → of x and y, [..., D], and partial sums.

    Those are float32 [P, 3·D], over rows: for the gradients of weight and bias, and of that of y.
    Without dropout, both gradients are one tensor, unless y's has a place of its own: it and the
    sums are written to ``of_y`` and ``sums``, if given.
    """
    width = total.shape[-1]
    rows, (each, _, warps, stages) = total.numel() // width, BACKWARD_NORM[width > 512]
    programs = norm_sums(rows, width)
    of_x = torch.empty_like(total)
    if of_y is None:
        of_y = torch.empty_like(total) if dropout > 0 else of_x
    if sums is None:
        sums = total.new_empty(programs, 3 * width, dtype=torch.float32)
    _add_norm_backward[(programs,)](
        *(total, grad, weight, of_x, of_y, sums, kept, rows, eps, dropout),
        WIDTH=width,
        PADDED=triton.next_power_of_2(width),
        ROWS=each,
        STAGES=stages,
        DROP=dropout > 0,
        SPLIT=of_y is not of_x,
        num_warps=warps,
    )
    return of_x, of_y, sums
