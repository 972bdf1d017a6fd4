"""Compensation of rows that share their levels, vectors or single values, perhaps with scales.

As `compensation`, but d neighbours are rounded together: with H = U·D·Uᵀ, U unit upper triangular
in blocks of d and D of these on its diagonal, block b is rounded after the errors e_i of those
before it were added to it, Σ e_i·U_ib, to the vector that is nearest in the metric D_b (GPTVQ, van
Baalen et al., arXiv 2402.15319; QuIP#, Tseng et al., 2402.04396). A row's scale s only divides what
its levels must come near to, w ÷ s, and weighs the row by s² where levels are fitted for all rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from flowquant.models.damping import damped, upper_factor
from flowquant.quantization.codebook import Codebook, with_levels
from flowquant.quantization.conjugate import conjugate_gradients
from flowquant.quantization.rounding import BLOCK, rounded_in_order

# Times that a row is rounded from its beginning, and then passes over it that revise what it got.
ROUNDS, REVISIONS = 3, 2
# Steps of conjugate gradients that fit levels.
FIT_STEPS = 16
# Distances of rows to vectors that are held at a time.
MOST_DISTANCES = 1 << 24


def compensated_shared(
    wanted: Tensor, hessian: Tensor, start: Codebook, damping: float
) -> Codebook:
    """As `compensation.compensated`, for a codebook of one group, its levels in any order.

    Args:
        wanted: Values to come near to, float32 [R, n].
        hessian: Float32 [n, n].
        start: The codebook by rounding alone, with a scale of each row or without. Common levels,
            which are other tensors' too, stay what they are.
        damping: Share of the Hessian's mean diagonal that is added to it, and of that of the
            levels' system, which holds them where they are.

    Raises:
        IndefiniteError: if the damped Hessian is not.
        OverflowError: if a level or a scale is beyond the range of its type.
    """
    problem = _Problem.of(wanted, hessian, start.dimension, damping)
    kind = start.levels.dtype
    levels = start.levels.float().view(-1, start.dimension)
    scales = torch.ones(len(wanted), 1, device=wanted.device)
    if start.scales is not None:
        scales = start.scales.float()[:, None]
    indices = start.indices.view(len(wanted), -1).long()
    best, least = start, problem.error(levels, scales, indices)
    for _ in range(ROUNDS):
        indices = problem.rounded(levels, scales)
        for _ in range(REVISIONS):
            indices = problem.revised(levels, scales, indices)
            if not start.common:
                levels = problem.refitted(levels, scales, indices).to(kind).float()
            if start.scales is not None:
                scales = problem.rescaled(levels, scales, indices).to(kind).float()
        error = problem.error(levels, scales, indices)
        if error < least:
            book = replace(
                start,
                levels=levels.view(start.levels.shape),
                indices=indices.int().view(start.indices.shape),
                scales=None if start.scales is None else scales[:, 0],
            )
            best, least = book, error
    return with_levels(best if start.common else in_order(best).compact(), kind)


def in_order(book: Codebook) -> Codebook:
    """The same values, single levels sorted."""
    if book.dimension > 1:
        return book
    levels, order = book.levels.sort(dim=1)
    places = order.argsort(dim=1)
    return replace(book, levels=levels, indices=places.gather(1, book.indices.long()).int())


@dataclass(frozen=True)
class _Problem:
    """Rows to be rounded under a Hessian, d neighbours together.

    ``levels`` are float32 [L, d], ``scales`` [R, 1], ``indices`` int64 [R, n ÷ d].

    Args:
        values: What to come near to, float32 [R, n].
        hessian: Damped, float32 [n, n].
        damping: What holds levels, as a share.
        d: Values that an index stands for.
        order: In which vectors are rounded: those first whose errors matter most; int64 [n ÷ d].
        columns: Those of the vectors in this order, int64 [n].
        feedback: What the error of one value, by row, adds to those of later vectors, by column;
            and the metrics of the vectors, [n ÷ d, d, d]; in order.
        coupling: The same once all have a level: what any other vector's adds.
    """

    values: Tensor
    hessian: Tensor
    damping: float
    d: int
    order: Tensor
    columns: Tensor
    feedback: tuple[Tensor, Tensor]
    coupling: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, values: Tensor, hessian: Tensor, d: int, damping: float) -> _Problem:
        """The problem of some values and the Hessian of their inputs."""
        hessian = damped(hessian, damping)
        weights = hessian.diagonal().view(-1, d).sum(1)
        order = weights.argsort(descending=True, stable=True)
        columns = (order[:, None] * d + torch.arange(d, device=order.device)).flatten()
        ordered = hessian[columns][:, columns].double()
        factor = upper_factor(ordered)
        own = _diagonal(factor, d)
        feedback = _without_diagonal(_by_blocks(factor, own), d), own @ own.transpose(1, 2)
        own = _diagonal(ordered, d)
        coupling = _without_diagonal(_by_blocks(ordered, own), d), own
        both = [(factor.float(), metric.float()) for factor, metric in (feedback, coupling)]
        return cls(values, hessian, damping, d, order, columns, *both)

    def rounded(self, levels: Tensor, scales: Tensor) -> Tensor:
        """Indices, each vector rounded after it took over the errors of those before it."""
        return self._swept(levels, scales, self.feedback, torch.zeros_like(self.values))

    def revised(self, levels: Tensor, scales: Tensor, indices: Tensor) -> Tensor:
        """Indices, each vector in turn at the level that is best given all others'."""
        errors = self._scaled(scales) - self._chosen(levels, indices)
        return self._swept(levels, scales, self.coupling, errors[:, self.columns])

    def _swept(
        self, levels: Tensor, scales: Tensor, factors: tuple[Tensor, Tensor], errors: Tensor
    ) -> Tensor:
        """Round every vector in order, to which ``errors`` [R, n], kept up to date, add."""
        d, n = self.d, self.values.shape[1]
        factor, metrics = factors
        values = self._scaled(scales)[:, self.columns]
        if d == 1:
            return self._swept_values(values, levels, factor, errors)
        indices = torch.empty(len(values), n // d, dtype=torch.int64, device=values.device)
        for start in range(0, n, size := BLOCK // d * d):
            part = slice(start, start + size)
            inner = factor[part, part]
            wanted = values[:, part] + errors @ factor[:, part] - errors[:, part] @ inner
            for first in range(0, inner.shape[0], d):
                own, place = slice(first, first + d), (start + first) // d
                # What changes within these columns is added here, what was before them above.
                goal = wanted[:, own] + errors[:, part] @ inner[:, own]
                found = _nearest(goal, levels, metrics[place])
                indices[:, self.order[place]] = found
                at = slice(start + first, start + first + d)
                errors[:, at] = values[:, at] - levels[found]
        return indices

    def _swept_values(
        self, values: Tensor, levels: Tensor, factor: Tensor, errors: Tensor
    ) -> Tensor:
        """The same of single values, whose metric is a number, so that the nearest is."""
        ascending, places = levels[:, 0].sort()
        block = torch.zeros_like(self.order)
        table = ascending.view(1, -1, 1)
        found = rounded_in_order(values.T.contiguous(), table, factor, errors.T.contiguous(), block)
        return torch.empty_like(found).index_copy_(0, self.order, places[found]).T.contiguous()

    def refitted(self, levels: Tensor, scales: Tensor, indices: Tensor) -> Tensor:
        """Levels of less error for these indices, by conjugate gradients from where they are.

        They are held there by a little, or those of few values would go far for the sake of others'
        errors.
        """
        every = indices.flatten()[:, None].expand(-1, self.d)
        weights = (scales.square() * self.hessian.diagonal()).view(-1, self.d)
        diagonal = torch.zeros_like(levels).scatter_add_(0, every, weights)
        hold = self.damping * diagonal.mean()

        def gathered(errors: Tensor) -> Tensor:
            """What all rows' errors [R, n] say of each level, [L, d]."""
            slopes = (scales * (errors @ self.hessian)).view(-1, self.d)
            return torch.zeros_like(levels).scatter_add_(0, every, slopes)

        def applied(step: Tensor) -> Tensor:
            return gathered(scales * self._chosen(step, indices)) + hold * step

        right = gathered(self._errors(levels, scales, indices))
        # Exact after as many steps as there are values.
        steps = min(FIT_STEPS, levels.numel())
        return levels + conjugate_gradients(applied, right, diagonal + hold, steps)

    def rescaled(self, levels: Tensor, scales: Tensor, indices: Tensor) -> Tensor:
        """The scale of least error for each row; that of a row of zeros stays."""
        chosen = self._chosen(levels, indices)
        weighed = chosen @ self.hessian
        squares = (weighed * chosen).sum(1, keepdim=True)
        best = (weighed * self.values).sum(1, keepdim=True) / squares
        return torch.where(squares > 0, best, scales)

    def error(self, levels: Tensor, scales: Tensor, indices: Tensor) -> float:
        """The mean square by which outputs err, summed over rows."""
        errors = self._errors(levels, scales, indices)
        return ((errors @ self.hessian) * errors).sum().item()

    def _errors(self, levels: Tensor, scales: Tensor, indices: Tensor) -> Tensor:
        return self.values - scales * self._chosen(levels, indices)

    def _scaled(self, scales: Tensor) -> Tensor:
        """Values as levels stand for them; a row whose scale is 0 is all one to them."""
        return self.values / torch.where(scales == 0, 1.0, scales)

    def _chosen(self, levels: Tensor, indices: Tensor) -> Tensor:
        return levels.index_select(0, indices.flatten()).view(len(indices), -1)


def _nearest(goal: Tensor, levels: Tensor, metric: Tensor) -> Tensor:
    """Index of the vector c of least (v − c)·M·(v − c) for each v of ``goal`` [R, d]."""
    images = levels @ metric
    half = (images * levels).sum(1) / 2
    parts = goal.split(max(1, MOST_DISTANCES // len(levels)))
    return torch.cat([torch.addmm(-half, part, images.T).argmax(1) for part in parts])


def _diagonal(matrix: Tensor, d: int) -> Tensor:
    """The blocks [n ÷ d, d, d] on the diagonal of a matrix [n, n]."""
    blocks = matrix.unflatten(1, (-1, d)).unflatten(0, (-1, d))
    return blocks.diagonal(dim1=0, dim2=2).permute(2, 0, 1)


def _by_blocks(matrix: Tensor, blocks: Tensor) -> Tensor:
    """A matrix [n, n] of which every d columns are multiplied by the inverse of a block."""
    parts = matrix.unflatten(1, (len(blocks), -1)).transpose(0, 1)
    return torch.linalg.solve(blocks, parts, left=False).transpose(0, 1).flatten(1)


def _without_diagonal(matrix: Tensor, d: int) -> Tensor:
    """A matrix with zeros for its blocks on the diagonal."""
    block = torch.arange(len(matrix), device=matrix.device) // d
    return matrix.masked_fill(block[:, None] == block, 0)
