"""Solvers of dx/dt = v(x, t) from t = 0 to t = 1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]


@torch.inference_mode()
def euler(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    """Integrate with ``steps`` equal Euler steps: x ← x + v(x, k/steps)/steps.

    Args:
        velocity: v(x, t) for x [B, …] and t [B].
        x: The state at t = 0, [B, …]; not changed.
        steps: Number of steps, and of velocity evaluations.

    Returns:
        The state at t = 1, [B, …].
    """
    # Times are computed in float64 on the host, so step 999 of 1000 is where it should be.
    times = torch.arange(steps, dtype=torch.float64).div(steps).to(x)
    for time in times:
        x = x + velocity(x, time.expand(len(x))) / steps
    return x
