"""A linear layer in e4m3 with its activation: the widest values are written once, a byte each."""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from flowquant.models.kernels.activation import normal
from flowquant.models.kernels.cast import Cast, scaled_to_e4m3


@triton.jit
def _write(value, out, bias, row, column, rows, columns, to, saturated, GELU: tl.constexpr):
    """The activation of a tile and its bias, as e4m3, from a row and a column on."""
    across = column + tl.arange(0, value.shape[1])
    value += tl.load(bias + across, mask=across < columns, other=0.0).to(tl.float32)[None, :]
    if GELU:
        below, _ = normal(value)
        value = value * below
    else:
        value = tl.where(value < 0, 0.0, value)
    inside = (row + tl.arange(0, value.shape[0]) < rows)[:, None]
    out.store([row, column], scaled_to_e4m3(value * to, saturated, inside))


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
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    INNER: tl.constexpr,
):
    # Neighbours share rows of x; all of the weight stays in the cache.
    across = tl.cdiv(columns, COLUMNS)
    by, to = tl.load(scale), tl.load(inverse)
    half: tl.constexpr = COLUMNS // 2
    # Flat, so that the next tile's inputs are on their way while this one's results are written.
    for tile in tl.range(
        tl.program_id(0), tl.cdiv(rows, ROWS) * across, tl.num_programs(0), flatten=True
    ):
        row, column = tile // across * ROWS, tile % across * COLUMNS
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for start in range(0, inner, INNER):
            by_row, by_column = x.load([row, start]), weight.load([column, start])
            total = tl.dot(by_row, by_column.T, total)
        # By halves, which take fewer registers.
        left, right = tl.split(tl.permute(tl.reshape(total * by, (ROWS, 2, half)), (0, 2, 1)))
        _write(left, out, bias, row, column, rows, columns, to, saturated, GELU)
        _write(right, out, bias, row, column + half, rows, columns, to, saturated, GELU)


# Rows, columns and inner values of a tile, warps, and tiles under way.
TILE = 128, 128, 128, 4, 3
# Programs of a multiprocessor: while one writes, another multiplies.
PROGRAMS = 2


def linear_activate(
    x: Tensor, weight: Tensor, bias: Tensor, scale: Tensor, gelu: bool, how: Cast
) -> Tensor:
    """GELU or ReLU of scale·x·Wᵀ + b, as e4m3.

    Args:
        x: e4m3, contiguous [..., in]; sizes are multiples of 16.
        weight: e4m3, contiguous [out, in].
        bias: [out].
        scale: Of the product, float32 [1].
        gelu: Whether the activation is GELU, exact; else ReLU.
        how: The result is cast.

    Returns:
        [..., out].
    """
    columns, inner = weight.shape
    given = x.flatten(0, -2)
    rows, (high, wide, deep, warps, stages) = len(given), TILE
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    tiles = triton.cdiv(rows, high) * triton.cdiv(columns, wide)
    _linear[(min(tiles, _programs(x.device)),)](
        TensorDescriptor.from_tensor(given, [high, deep]),
        TensorDescriptor.from_tensor(weight, [wide, deep]),
        *(bias, scale),
        TensorDescriptor.from_tensor(out, [high, wide // 2]),
        *(how.inverse, how.saturated, rows, columns, inner),
        GELU=gelu,
        ROWS=high,
        COLUMNS=wide,
        INNER=deep,
        num_warps=warps,
        num_stages=stages,
    )
    return out.view(*x.shape[:-1], columns)


@cache
def _programs(device: torch.device) -> int:
    """How many run side by side."""
    if device.type == "cpu":
        return 1
    return PROGRAMS * torch.cuda.get_device_properties(device).multi_processor_count
