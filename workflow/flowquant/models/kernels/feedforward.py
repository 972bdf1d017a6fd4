"""The products beside a ReLU with dropout, which then costs no pass over memory of its own."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from flowquant.models.kernels.dropout import kept_tile


@triton.jit
def _linear_relu(
    x,
    weight,
    bias,
    out,
    seeds,
    rows,
    dropout,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEEP: tl.constexpr,
    DROP: tl.constexpr,
):
    # Neighbours share rows of x; all of the weight stays in the cache.
    across: tl.constexpr = (WIDTH + COLUMNS - 1) // COLUMNS
    first = tl.program_id(0) // across * ROWS
    side = tl.program_id(0) % across
    row, column = first + tl.arange(0, ROWS), side * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, DEEP)
    left = x + (row % rows)[:, None].to(tl.int64) * INNER + k[None, :]
    right = weight + (column % WIDTH)[None, :] * INNER + k[:, None]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for _ in range(0, INNER, DEEP):
        total = tl.dot(tl.load(left), tl.load(right), total)
        left += DEEP
        right += DEEP
    total += tl.load(bias + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    # What is written is rounded before the dropout, too, as by two kernels.
    value = tl.maximum(total, 0.0).to(out.dtype.element_ty).to(tl.float32)
    if DROP:
        counter = side * (COLUMNS // 8) + tl.arange(0, COLUMNS // 8)
        counter = row[:, None] * ((WIDTH + 7) // 8) + counter[None, :]
        value = value * kept_tile(tl.load(seeds), counter, dropout) / (1 - dropout)
    inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
    place = row[:, None].to(tl.int64) * WIDTH + column[None, :]
    tl.store(out + place, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _linear_relu_backward(
    grad,
    weight,
    hidden,
    out,
    sums,
    rows,
    dropout,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEEP: tl.constexpr,
):
    across: tl.constexpr = (WIDTH + COLUMNS - 1) // COLUMNS
    band, side = tl.program_id(0) // across, tl.program_id(0) % across
    row, column = band * ROWS + tl.arange(0, ROWS), side * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, DEEP)
    left = grad + (row % rows)[:, None].to(tl.int64) * INNER + k[None, :]
    right = weight + (column % WIDTH)[None, :] + k[:, None] * WIDTH
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for _ in range(0, INNER, DEEP):
        total = tl.dot(tl.load(left), tl.load(right), total)
        left += DEEP
        right += DEEP * WIDTH
    inside = (row[:, None] < rows) & (column[None, :] < WIDTH)
    place = row[:, None].to(tl.int64) * WIDTH + column[None, :]
    passes = tl.load(hidden + place, mask=inside, other=0.0).to(tl.float32) > 0
    total = tl.where(passes, total / (1 - dropout), 0.0)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)
    tl.store(sums + band * WIDTH + column, tl.sum(total, 0), mask=column < WIDTH)


# Rows, columns and inner values of a tile, warps, tiles under way, and registers at most, with
# which two programs share a multiprocessor; forward and backward.
TILES = (128, 128, 64, 8, 3, 128), (128, 128, 64, 8, 3, 128)


def fits(width: int) -> bool:
    """Whether inner vectors of this width are whole tiles."""
    return all(width % deep == 0 for _, _, deep, *_ in TILES)


def linear_relu_dropout(
    x: Tensor, weight: Tensor, bias: Tensor, dropout: float, seed: Tensor, out: Tensor
) -> None:
    """Write dropout(ReLU(x·Wᵀ + b)), as `activate` drops, to ``out``.

    x is contiguous [..., D], W [F, D], of a width that `fits`; ``out`` is contiguous [..., F].
    """
    width, inner = weight.shape
    rows, (high, wide, deep, warps, stages, most) = x.numel() // inner, TILES[0]
    _linear_relu[(triton.cdiv(rows, high) * triton.cdiv(width, wide),)](
        *(x, weight, bias, out, seed, rows, dropout),
        WIDTH=width,
        INNER=inner,
        ROWS=high,
        COLUMNS=wide,
        DEEP=deep,
        DROP=dropout > 0,
        num_warps=warps,
        num_stages=stages,
        maxnreg=most,
    )


def relu_sums(rows: int) -> int:
    """How many partial sums over so many rows `linear_relu_backward` makes."""
    return triton.cdiv(rows, TILES[1][0])


def linear_relu_backward(
    grad: Tensor, weight: Tensor, hidden: Tensor, dropout: float, out: Tensor, sums: Tensor
) -> None:
    """Write the gradient of what went into ReLU and dropout, from that of the product after them.

    Args:
        grad: Of the product's output, contiguous [..., D], of a width that `fits`.
        weight: Of the product, [D, F].
        hidden: What went into the product, [..., F].
        dropout: Before it.
        out: Where to write the gradient, contiguous [..., F].
        sums: Where to write partial sums over its rows, float32 [P, F].
    """
    inner, width = weight.shape
    rows, (high, wide, deep, warps, stages, most) = grad.numel() // inner, TILES[1]
    _linear_relu_backward[(triton.cdiv(rows, high) * triton.cdiv(width, wide),)](
        *(grad, weight, hidden, out, sums, rows, dropout),
        WIDTH=width,
        INNER=inner,
        ROWS=high,
        COLUMNS=wide,
        DEEP=deep,
        num_warps=warps,
        num_stages=stages,
        maxnreg=most,
    )
