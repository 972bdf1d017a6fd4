"""A GPU kernel that rounds a block of columns, one after another (imported lazily)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Rows that one program rounds: they know nothing of each other.
TILE = 16


@triton.jit
def _round(
    wanted_ptr,
    values_ptr,
    inner_ptr,
    own_ptr,
    levels_ptr,
    block_ptr,
    found_ptr,
    columns,
    rows,
    count,
    block_stride,
    level_stride,
    row_stride,
    COLUMNS: tl.constexpr,  # noqa: N803
    TILE: tl.constexpr,  # noqa: N803
):
    """TILE rows through all columns; arguments as `round_block` passes them."""
    row = tl.program_id(0) * TILE + tl.arange(0, TILE)
    real = row < rows
    column = tl.arange(0, COLUMNS)
    place = column[:, None] * rows + row[None, :]
    inside = (column[:, None] < columns) & real[None, :]
    errors = tl.load(own_ptr + place, mask=inside, other=0.0)
    for j in range(columns):
        factor = tl.load(inner_ptr + j * columns + column, mask=column < columns, other=0.0)
        value = tl.load(wanted_ptr + j * rows + row, mask=real, other=0.0)
        value += tl.sum(factor[:, None] * errors, 0)
        table = levels_ptr + tl.load(block_ptr + j) * block_stride + row * row_stride
        below = tl.load(table, mask=real, other=0.0)
        chosen = below
        index = tl.zeros((TILE,), dtype=tl.int64)
        for level in range(1, count):
            above = tl.load(table + level * level_stride, mask=real, other=0.0)
            higher = value > (above + below) / 2
            index += higher.to(tl.int64)
            chosen = tl.where(higher, above, chosen)
            below = above
        tl.store(found_ptr + j * rows + row, index, mask=real)
        error = tl.load(values_ptr + j * rows + row, mask=real, other=0.0) - chosen
        errors = tl.where(column[:, None] == j, error[None, :], errors)
    tl.store(own_ptr + place, errors, mask=inside)


def round_block(
    wanted: Tensor, values: Tensor, inner: Tensor, own: Tensor, levels: Tensor, block: Tensor
) -> Tensor:
    """Round columns to their nearest levels in turn, each after it took over others' errors.

    Args:
        wanted: What each value is to be, but for the errors within the block, float32 [m, R].
        values: The values, float32 [m, R].
        inner: What a column, by row, takes over from each, float32 [m, m].
        own: Errors, float32 [m, R], contiguous; brought up to date.
        levels: Sorted, float32 [B, L, R] or [B, L, 1].
        block: Which of B each column is in, int64 [m].

    Returns:
        Indices int64 [m, R].
    """
    columns, rows = values.shape
    found = torch.empty(columns, rows, dtype=torch.int64, device=values.device)
    _round[(triton.cdiv(rows, TILE),)](
        wanted.contiguous(),
        values.contiguous(),
        inner.contiguous(),
        own,
        levels,
        block.contiguous(),
        found,
        columns,
        rows,
        levels.shape[1],
        levels.stride(0),
        levels.stride(1),
        levels.stride(2) if levels.shape[2] > 1 else 0,
        COLUMNS=triton.next_power_of_2(columns),
        TILE=TILE,
    )
    return found
