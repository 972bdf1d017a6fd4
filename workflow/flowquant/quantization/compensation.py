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

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowquant.models.damping import damped, upper_factor
from flowquant.quantization.codebook import Codebook, with_levels
from flowquant.quantization.conjugate import conjugate_gradients
from flowquant.quantization.rounding import rounded_in_order
from flowquant.quantization.shared_compensation import compensated_shared

# Times that a row is rounded from its beginning, and then passes over it that revise what it got.
ROUNDS, REVISIONS = 3, 2
# More levels than this are close enough to stay where they are.
MOST_REFITTED = 32
# Steps of conjugate gradients that fit levels.
FIT_STEPS = 8


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
        # Which block of its row each value is in.
        block = self.order // (len(self.values) // len(levels))
        indices = rounded_in_order(self.values[self.order], levels, factor, errors, block)
        return torch.empty_like(indices).index_copy_(0, self.order, indices)

    def refitted(self, levels: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Levels of least error for these indices, sorted, and indices into them.

        The blocks of a row one after the other. Levels are held where they are by a little, or
        those of few values would go far for the sake of others' errors.
        """
        rows, count = self.values.shape[1], levels.shape[1]
        at = indices.view(len(levels), -1, rows)

        def gathered(slopes: Tensor) -> Tensor:
            """What is said of values [n, R], summed over those of each level."""
            each = torch.zeros(len(levels), count, rows, device=slopes.device)
            each.scatter_add_(1, at, slopes.view(at.shape))
            return each if levels.shape[2] == rows else each.sum(2, keepdim=True)

        def applied(step: Tensor) -> Tensor:
            return gathered(self.hessian @ self._chosen(step, at)) + hold * step

        diagonal = gathered(self.hessian.diagonal()[:, None].expand(-1, rows))
        hold = self.damping * diagonal.mean(1, keepdim=True)
        right = gathered(self.hessian @ self._errors(levels, indices))
        steps = min(FIT_STEPS, len(levels) * count)
        levels = levels + conjugate_gradients(applied, right, diagonal + hold, steps, (0, 1))
        levels, order = levels.sort(dim=1)
        place = order.argsort(dim=1).expand(-1, -1, rows)
        moved = place.gather(1, at)
        return levels, moved.view_as(indices)

    def error(self, levels: Tensor, indices: Tensor) -> float:
        """The mean square by which outputs err, summed over rows."""
        errors = self._errors(levels, indices)
        return ((self.hessian @ errors) * errors).sum().item()

    def _errors(self, levels: Tensor, indices: Tensor) -> Tensor:
        """What values are above their levels, [n, R]."""
        at = indices.view(len(levels), -1, self.values.shape[1])
        return self.values - self._chosen(levels, at)

    def _chosen(self, levels: Tensor, at: Tensor) -> Tensor:
        """Levels [n, R] at indices [B, n ÷ B, R]."""
        return levels.expand(-1, -1, at.shape[2]).gather(1, at).view(self.values.shape)
