"""AdamW in one pass over memory, which also writes the copy in bfloat16 that computes."""

from __future__ import annotations

import math

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _lost(x):
    """1 − exp(x) of x < 0: near 0 by its series, since float32 would cancel there."""
    series = 1 + x / 2 * (1 + x / 3 * (1 + x / 4 * (1 + x / 5 * (1 + x / 6))))
    return tl.where(x > -0.1, -x * series, 1 - tl.exp(x))


@triton.jit
def _adamw(
    weights,
    gradient,
    first,
    second,
    copy,
    rate_in,
    step_in,
    count,
    decay,
    keep1,
    take1,
    keep2,
    take2,
    log1,
    log2,
    eps,
    VALUES: tl.constexpr,
    COPY: tl.constexpr,
):
    place = tl.program_id(0).to(tl.int64) * VALUES + tl.arange(0, VALUES)
    inside = place < count
    rate, step = tl.load(rate_in), tl.load(step_in)
    weight = tl.load(weights + place, mask=inside, other=0.0)
    grad = tl.load(gradient + place, mask=inside, other=0.0).to(tl.float32)
    mean = tl.load(first + place, mask=inside, other=0.0)
    square = tl.load(second + place, mask=inside, other=0.0)
    mean = keep1 * mean + take1 * grad
    square = keep2 * square + take2 * grad * grad
    spread = tl.sqrt(square) / tl.sqrt(_lost(step * log2)) + eps
    weight -= rate * decay * weight
    weight -= rate / _lost(step * log1) * (mean / spread)
    tl.store(weights + place, weight, mask=inside)
    tl.store(first + place, mean, mask=inside)
    tl.store(second + place, square, mask=inside)
    if COPY:
        tl.store(copy + place, weight.to(copy.dtype.element_ty), mask=inside)


# Values of a program, and warps.
VALUES = 1024, 4


def adamw(
    weights: Tensor,
    gradient: Tensor,
    first: Tensor,
    second: Tensor,
    copy: Tensor | None,
    rate: Tensor,
    step: Tensor,
    betas: tuple[float, float],
    eps: float,
    decay: float,
) -> None:
    """Update vectors in place, as `torch.optim.AdamW` does.

    Args:
        weights: float32 [N].
        gradient: Of any type, [N].
        first: Moving average of gradients, float32 [N].
        second: Of their squares, float32 [N].
        copy: Where to write the weights in its own type as well, [N], if anywhere.
        rate: Learning rate, float32 scalar on the device.
        step: Number of this step, from 1, float32 scalar on the device.
        betas: What the averages keep, each below 1 and above 0.
        eps: Added to the root of the second average.
        decay: Of the weights, decoupled from the gradient.
    """
    each, warps = VALUES
    keep1, keep2 = betas
    _adamw[(triton.cdiv(len(weights), each),)](
        *(weights, gradient, first, second, copy, rate, step, len(weights), decay),
        *(keep1, 1 - keep1, keep2, 1 - keep2, math.log(keep1), math.log(keep2), eps),
        VALUES=each,
        COPY=copy is not None,
        num_warps=warps,
    )
