"""Rounding that makes up for its own error: values of a row take over the error of others.

A layer puts out W·x. With q in a row's place its output errs by (w − q)·x, whose mean square over
inputs x is (w − q)·H·(w − q)ᵀ, H = E[x·xᵀ]. Least for one value after another: with H = U·D·Uᵀ, U
unit upper triangular, value j is rounded after the errors e_i of those before it were added to it,
Σ e_i·U_ij. This is GPTQ (Frantar et al., arXiv 2210.17323) in the form of LDLQ, which needs no
inverse (Chee et al., 2307.13304, theorem 6 proves them equal). Then two steps alternate, neither of
which raises the error: each value anew, given all others (Behdin et al., 2309.01885), and the
levels, given which of them each value has (GPTVQ, van Baalen et al., 2402.15319).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowquant.quantization.codebook import Codebook, with_levels
from flowquant.quantization.damping import damped, upper_factor
from flowquant.quantization.shared_compensation import compensated_shared
from flowquant.runtime.device import has_triton

# Columns after which the errors are carried to all others by one matrix product.
BLOCK = 64
# Times that a row is rounded from its beginning, and then passes over it that revise what it got.
ROUNDS, REVISIONS = 3, 2
# More levels than this are close enough to stay where they are.
MOST_REFITTED = 32
# Of more levels the nearest is searched for, not counted.
MOST_COUNTED = 16
# Entries of the table, value by level, that is made at a time.
MOST_ENTRIES = 1 << 24


def compensated(
    weight: Tensor,
    hessian: Tensor,
    start: Codebook,
    damping: float = 0.01,
    target: Tensor | None = None,
) -> Codebook:
    """A codebook under which a layer's output errs less than under ``start``.

    With a multiple of the identity for a Hessian each value gets its nearest level.

    Args:
        weight: The layer's weight, float32, a row of n values for each output on axis 0.
        hessian: Mean of x·xᵀ over inputs x of the layer, float32 [n, n].
        start: The weight's codebook by rounding alone; levels as they are stored, sorted.
        damping: Share of the Hessian's mean diagonal that is added to it, above 0; and, of that
            of each row's levels, what holds them where they are.
        target: Values to come near to in place of the weight's own, float32 [R, n].

    Raises:
        IndefiniteError: if the damped Hessian is not.
        OverflowError: if a level is beyond the range of its type.
    """
    rows = len(weight)
    wanted = weight.flatten(1) if target is None else target
    if start.scales is not None or start.dimension > 1:
        return compensated_shared(wanted, hessian, start, damping)
    problem = _Problem.of(wanted.T.contiguous(), hessian, damping)
    kind, count = start.levels.dtype, start.levels.shape[1]
    # [blocks of a row, levels, rows], the last 1 where all rows share them.
    tied = len(start.levels) == 1
    shape = (1, 1, count) if tied else (rows, -1, count)
    levels = start.levels.float().view(shape).permute(1, 2, 0).contiguous()
    indices = start.indices.view(rows, -1).T.long().contiguous()
    best, least = start, problem.error(levels, indices)
    for _ in range(ROUNDS if count <= MOST_REFITTED else 1):
        indices = problem.rounded(levels)
        for _ in range(REVISIONS):
            indices = problem.revised(levels, indices)
            if count <= MOST_REFITTED:
                levels, indices = problem.refitted(levels, indices)
                levels = levels.to(kind).float()
        error = problem.error(levels, indices)
        if error < least:
            groups = levels.permute(2, 0, 1).reshape(-1, count)
            assigned = indices.T.reshape(len(groups), -1).int()
            best, least = replace(start, levels=groups, indices=assigned), error
    return with_levels(best.compact(), kind)


@dataclass(frozen=True)
class _Problem:
    """Rows to be rounded under a Hessian; everything with a row's n values along axis 0.

    ``levels`` are float32 [B, L, R]: of B blocks of each of R rows, or [B, L, 1] of all rows;
    ``indices`` int64 [n, R].

    Args:
        values: What to come near to, float32 [n, R].
        hessian: Damped, float32 [n, n].
        damping: What holds levels, as a share.
        order: In which values are rounded: those first whose errors matter most; int64 [n].
        feedback: What the error of one value, by row, adds to those after it, by column; in order.
        coupling: The same once all have a level: what any other's adds.
    """

    values: Tensor
    hessian: Tensor
    damping: float
    order: Tensor
    feedback: Tensor
    coupling: Tensor

    @classmethod
    def of(cls, values: Tensor, hessian: Tensor, damping: float) -> _Problem:
        """The problem of some values and the Hessian of their inputs."""
        hessian = damped(hessian, damping)
        order = hessian.diagonal().argsort(descending=True, stable=True)
        ordered = hessian[order][:, order].double()
        factor = upper_factor(ordered)
        feedback = (factor / factor.diagonal()).triu(1).float()
        coupling = (ordered / ordered.diagonal()).fill_diagonal_(0).float()
        return cls(values, hessian, damping, order, feedback, coupling)

    def rounded(self, levels: Tensor) -> Tensor:
        """Indices, each value rounded after it took over the errors of those before it."""
        return self._swept(levels, self.feedback, torch.zeros_like(self.values))

    def revised(self, levels: Tensor, indices: Tensor) -> Tensor:
        """Indices, each value in turn at the level that is best given all others'."""
        return self._swept(levels, self.coupling, self._errors(levels, indices)[self.order])

    def _swept(self, levels: Tensor, factor: Tensor, errors: Tensor) -> Tensor:
        """Round every value in order, to which ``errors`` [n, R], kept up to date, add."""
        n, rows = self.values.shape
        values, found = self.values[self.order], []
        tables = _Nearest.of(levels, rows)
        # Which block of its row each value is in.
        block = self.order // (n // len(levels))
        fused = values.is_cuda and levels.shape[1] <= MOST_COUNTED and has_triton()
        for start in range(0, n, BLOCK):
            part = slice(start, start + BLOCK)
            inner, own = factor[part, part].T.contiguous(), errors[part]
            wanted = values[part] + factor[:, part].T @ errors - inner @ own
            if fused:
                from flowquant.quantization.compensation_kernel import round_block

                found.append(round_block(wanted, values[part], inner, own, levels, block[part]))
            else:
                own_tables = [tables[index] for index in block[part].tolist()]
                found.append(round_columns(wanted, values[part], inner, own, own_tables))
        indices = torch.cat(found)
        return torch.empty_like(indices).index_copy_(0, self.order, indices)

    def refitted(self, levels: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Levels of least error for these indices, sorted, and indices into them.

        The blocks of a row one after the other. Levels are held where they are by a little, or
        those of few values would go far for the sake of others' errors.
        """
        levels, errors = levels.clone(), self._errors(levels, indices)
        size, count = len(self.values) // len(levels), levels.shape[1]
        rows = self.values.shape[1]
        most = max(1, MOST_ENTRIES // (size * count))
        numbers = torch.arange(count, device=levels.device)
        for block in range(len(levels)):
            part = slice(block * size, (block + 1) * size)
            hessian, slope = self.hessian[part, part], self.hessian[part] @ errors
            squares, linear = [], []
            for some in torch.arange(rows, device=levels.device).split(most):
                # 1 where a value has a level, [size, rows, L].
                chosen = (indices[part, some, None] == numbers).float()
                weighed = (hessian @ chosen.flatten(1)).view_as(chosen)
                squares.append(chosen.permute(1, 2, 0) @ weighed.transpose(0, 1))
                linear.append((chosen * slope[:, some, None]).sum(0))
            matrix, right = torch.cat(squares).double(), torch.cat(linear).double()
            if levels.shape[2] < rows:
                matrix, right = matrix.sum(0, keepdim=True), right.sum(0, keepdim=True)
            hold = self.damping * matrix.diagonal(dim1=1, dim2=2).mean(1)
            matrix.diagonal(dim1=1, dim2=2).add_(hold[:, None])
            step = torch.linalg.solve(matrix, right[..., None]).squeeze(2).T.float()
            levels[block] += step
            errors[part] -= step.expand(count, rows).gather(0, indices[part])
        levels, order = levels.sort(dim=1)
        place = order.argsort(dim=1).expand(-1, -1, rows)
        moved = place.gather(1, indices.view(len(levels), size, rows))
        return levels, moved.view_as(indices)

    def error(self, levels: Tensor, indices: Tensor) -> float:
        """The mean square by which outputs err, summed over rows."""
        errors = self._errors(levels, indices)
        return ((self.hessian @ errors) * errors).sum().item()

    def _errors(self, levels: Tensor, indices: Tensor) -> Tensor:
        """What values are above their levels, [n, R]."""
        rows = self.values.shape[1]
        at = indices.view(len(levels), -1, rows)
        chosen = levels.expand(-1, -1, rows).gather(1, at)
        return self.values - chosen.view_as(self.values)


def round_columns(
    wanted: Tensor, values: Tensor, inner: Tensor, own: Tensor, tables: Sequence[_Nearest]
) -> Tensor:
    """As `compensation_kernel.round_block`, a column's levels being a table each."""
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
