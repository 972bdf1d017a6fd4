"""Solvers of dx/dt = v(x, t) from t = 0 to t = 1."""

from collections.abc import Callable

import torch
from torch import Tensor

from flowquant.config.sampling import SolverName

Velocity = Callable[[Tensor, Tensor], Tensor]
Step = Callable[[Velocity, Tensor, Tensor, float], Tensor]


def euler_step(velocity: Velocity, x: Tensor, t: Tensor, h: float) -> Tensor:
    """x + h·v(x, t): first order, one evaluation."""
    return x + h * velocity(x, t)


def midpoint_step(velocity: Velocity, x: Tensor, t: Tensor, h: float) -> Tensor:
    """x + h·v at the middle of an Euler step: second order, two evaluations."""
    return x + h * velocity(x + h / 2 * velocity(x, t), t + h / 2)


def heun_step(velocity: Velocity, x: Tensor, t: Tensor, h: float) -> Tensor:
    """x + h·(the mean of v at both ends of an Euler step): second order, two evaluations."""
    first = velocity(x, t)
    return x + h / 2 * (first + velocity(x + h * first, t + h))


STEPS: dict[SolverName, tuple[Step, int]] = {
    "euler": (euler_step, 1),
    "midpoint": (midpoint_step, 2),
    "heun": (heun_step, 2),
}


def start_times(steps: int, device: torch.device | str = "cpu") -> Tensor:
    """Times at which ``steps`` equal steps start, each rounded once; float32 [steps]."""
    return torch.arange(steps, dtype=torch.float64).div(steps).float().to(device)


def solve(
    velocity: Velocity, x: Tensor, solver: SolverName, steps: int, tolerance: float = 1e-5
) -> tuple[Tensor, int]:
    """Integrate from t = 0 to t = 1.

    Args:
        velocity: v(x, t) for x [B, …] and t [1].
        x: The state at t = 0, [B, …]; not changed.
        solver: ``euler``, ``midpoint`` and ``heun`` take equal steps; ``dopri5`` chooses its own,
            the same for the whole batch (torchdiffeq).
        steps: Number of equal steps; ``dopri5`` does not use it.
        tolerance: Of ``dopri5``, relative and absolute; the others do not use it.

    Returns:
        The state at t = 1, and how many times v was evaluated.
    """
    if solver == "dopri5":
        return _dopri5(velocity, x, tolerance)
    step, evaluations = STEPS[solver]
    for t in start_times(steps, x.device).to(x.dtype).split(1):
        x = step(velocity, x, t, 1 / steps)
    return x, steps * evaluations


def _dopri5(velocity: Velocity, x: Tensor, tolerance: float) -> tuple[Tensor, int]:
    """`solve` by Dormand and Prince's method of order 5, with adaptive steps."""
    from torchdiffeq import odeint

    evaluations = 0

    def counted(t: Tensor, state: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return velocity(state, t.view(1).to(state.dtype))

    ends = torch.tensor([0.0, 1.0], device=x.device)
    # A step must end at t = 1: by default torchdiffeq steps beyond it, where no network was
    # trained, and interpolates back.
    options = {"step_t": ends[1:]}
    states = odeint(
        counted, x, ends, rtol=tolerance, atol=tolerance, method="dopri5", options=options
    )
    return states[-1], evaluations
