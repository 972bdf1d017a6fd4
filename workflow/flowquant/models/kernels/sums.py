"""Sums over rows in a fixed order: the same gradient every time."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _sum_rows(
    x,
    out,
    rows,
    columns,
    of_stack,
    of_row,
    of_out,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    x += tl.program_id(1).to(tl.int64) * of_stack
    out += tl.program_id(1).to(tl.int64) * of_out
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in range(0, rows, ROWS):
        row = start + tl.arange(0, ROWS)
        inside = (row[:, None] < rows) & (column[None, :] < columns)
        total += tl.load(x + row[:, None] * of_row + column[None, :], mask=inside, other=0.0)
    tl.store(out + column, tl.sum(total, 0).to(out.dtype.element_ty), mask=column < columns)


# Rows and columns of a tile, and warps.
SUM_ROWS = 256, 8, 4


def sum_stacks(x: Tensor, out: Tensor) -> None:
    """Write the sums over rows of float32 [S, R, C], in a fixed order, to ``out`` [S, C].

    Both have their columns side by side; what lies between rows and stacks is theirs.
    """
    stacks, rows, columns = x.shape
    each, wide, warps = SUM_ROWS
    _sum_rows[(triton.cdiv(columns, wide), stacks)](
        *(x, out, rows, columns, x.stride(0), x.stride(1), out.stride(0)),
        ROWS=each,
        COLUMNS=wide,
        num_warps=warps,
    )


def sum_rows(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum over rows of float32 [R, C], in a fixed order → [C]."""
    out = torch.empty(1, x.shape[1], dtype=dtype, device=x.device)
    sum_stacks(x[None], out)
    return out[0]
