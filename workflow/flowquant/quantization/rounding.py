"""Values rounded one after another, each after the errors of those before it were added to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from flowquant.runtime.device import has_triton

# Values after which the errors are carried to all others by one matrix product.
BLOCK = 64
# Of more levels the nearest is searched for, not counted.
MOST_COUNTED = 16
# Of more levels the kernel, which looks at one after another, is no help.
MOST_FUSED = 64


def rounded_in_order(
    values: Tensor, levels: Tensor, factor: Tensor, errors: Tensor, block: Tensor
) -> Tensor:
    """Indices int64 [n, R] of R rows of values, all rows at once, along axis 0.

    Args:
        values: Float32 [n, R], in the order in which they are rounded.
        levels: Sorted, float32 [B, L, R]: of B blocks of each row; or [B, L, 1] of all rows.
        factor: What the error of one value, by row, adds to the others, by column; [n, n].
        errors: What values are above their levels so far, [n, R]; kept up to date.
        block: Which levels each value has, [n].
    """
    n, rows = values.shape
    tables, found = _Nearest.of(levels, rows), []
    fused = values.is_cuda and levels.shape[1] <= MOST_FUSED and has_triton()
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        inner, own = factor[part, part].T.contiguous(), errors[part]
        wanted = values[part] + factor[:, part].T @ errors - inner @ own
        if fused:
            from flowquant.quantization.rounding_kernel import round_block

            found.append(round_block(wanted, values[part], inner, own, levels, block[part]))
        else:
            own_tables = [tables[index] for index in block[part].tolist()]
            found.append(round_columns(wanted, values[part], inner, own, own_tables))
    return torch.cat(found)


def round_columns(
    wanted: Tensor, values: Tensor, inner: Tensor, own: Tensor, tables: Sequence[_Nearest]
) -> Tensor:
    """As `rounding_kernel.round_block`, a column's levels being a table each."""
    found = []
    for j, (row, table) in enumerate(zip(inner, tables, strict=True)):
        index, level = table(wanted[j] + row @ own)
        found.append(index)
        torch.sub(values[j], level, out=own[j])
    return torch.stack(found)


@dataclass(frozen=True)
class _Nearest:
    """The nearest of the levels of some rows: half-way, the lower one.

    Args:
        levels: Sorted, [L, R], or [L, 1] of all rows.
        middles: What lies half-way between them, [L − 1, R] or [L − 1, 1].
        counted: Whether middles below a value are counted; else they are searched, [R, L − 1].
    """

    levels: Tensor
    middles: Tensor
    counted: bool

    @classmethod
    def of(cls, levels: Tensor, rows: int) -> list[_Nearest]:
        """One for each block [L, R] of rows."""
        middles, counted = (levels[:, 1:] + levels[:, :-1]) / 2, levels.shape[1] <= MOST_COUNTED
        if not counted:
            middles = middles.transpose(1, 2).contiguous()
        levels = levels.expand(-1, -1, rows)
        return [cls(*each, counted) for each in zip(levels, middles, strict=True)]

    def __call__(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Indices int64 and levels of the rows' values [R]."""
        if self.counted:
            index = (values > self.middles).sum(0)
        elif len(self.middles) == 1:
            index = torch.bucketize(values, self.middles[0])
        else:
            index = torch.searchsorted(self.middles, values[:, None]).squeeze(1)
        return index, self.levels.gather(0, index[None])[0]
