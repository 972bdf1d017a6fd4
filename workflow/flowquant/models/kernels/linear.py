"""A linear layer in e4m3 with its activation: the widest values are written once, a byte each."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from flowquant.models.kernels.activation import normal
from flowquant.models.kernels.cast import Cast, to_e4m3


@triton.jit
def _linear(
    x,
    weight,
    bias,
    scale,
    out,
    inverse,
    saturated,
    rows,
    columns,
    inner,
    GELU: tl.constexpr,
    EVEN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
):
    # Neighbours share rows of x; all of the weight stays in the cache.
    across = tl.cdiv(columns, COLUMNS)
    row = tl.program_id(0) // across * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % across * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, INNER)
    left = x + (row % rows)[:, None].to(tl.int64) * inner + k[None, :]
    right = weight + (column % columns)[:, None] * inner + k[None, :]
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, inner, INNER):
        if EVEN:
            given, by = tl.load(left), tl.load(right)
        else:
            exists = start + k[None, :] < inner
            given = tl.load(left, mask=exists, other=0.0)
            by = tl.load(right, mask=exists, other=0.0)
        total = tl.dot(given, tl.trans(by), total)
        left += INNER
        right += INNER
    value = total * tl.load(scale)
    value += tl.load(bias + column, mask=column < columns, other=0.0).to(tl.float32)[None, :]
    if GELU:
        below, _ = normal(value)
        value = value * below
    else:
        value = tl.where(value < 0, 0.0, value)
    inside = (row[:, None] < rows) & (column[None, :] < columns)
    place = row[:, None].to(tl.int64) * columns + column[None, :]
    tl.store(out + place, to_e4m3(value, inverse, saturated, inside), mask=inside)


# Rows, columns and inner values of a tile, warps, and tiles under way.
TILE = 128, 128, 128, 8, 3


def linear_activate(
    x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, gelu: bool, how: Cast
) -> Tensor:
    """GELU or ReLU of scale·x·Wᵀ + b, as e4m3.

    Args:
        x: e4m3, contiguous [..., in].
        weight: e4m3, contiguous [out, in].
        bias: [out].
        scale: Of the product, float32 [1].
        gelu: Whether the activation is GELU, exact; else ReLU.
        how: The result is cast.

    Returns:
        [..., out].
    """
    columns, inner = weight.shape
    rows = x.numel() // inner
    out = torch.empty(*x.shape[:-1], columns, dtype=x.dtype, device=x.device)
    high, wide, deep, warps, stages = TILE
    grid = (triton.cdiv(rows, high) * triton.cdiv(columns, wide),)
    _linear[grid](
        *(x, weight, bias, scale, out, how.inverse, how.saturated, rows, columns, inner),
        GELU=gelu,
        EVEN=inner % deep == 0,
        ROWS=high,
        COLUMNS=wide,
        INNER=deep,
        num_warps=warps,
        num_stages=stages,
    )
    return out
