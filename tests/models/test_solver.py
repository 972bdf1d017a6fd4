"""Solvers on velocity fields whose solution is known."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from flowquant.config.sampling import SolverName
from flowquant.models.solver import STEPS, Velocity, solve

FIXED = list(STEPS)
ORDER = {"euler": 1, "midpoint": 2, "heun": 2}


def run(velocity: Velocity, x: Tensor, solver: SolverName, steps: int) -> Tensor:
    return solve(velocity, x, solver, steps)[0]


@pytest.mark.parametrize("solver", [*FIXED, "dopri5"])
def test_constant_velocity_is_exact(solver: SolverName) -> None:
    x = torch.randn(5, 2, dtype=torch.float64)
    found = run(lambda x, t: torch.full_like(x, 3.0), x, solver, 7)
    torch.testing.assert_close(found, x + 3)


def test_euler_on_exponential_growth() -> None:
    """dx/dt = x: n Euler steps give exactly (1 + 1/n)^n."""
    start = torch.ones(1, 1, dtype=torch.float64)
    for steps in (50, 100, 200):
        found = run(lambda x, t: x, start, "euler", steps).item()
        assert found == pytest.approx((1 + 1 / steps) ** steps, rel=1e-12)


@pytest.mark.parametrize("solver", FIXED)
def test_order_of_convergence(solver: SolverName) -> None:
    """dx/dt = x·cos t, whose solution is exp(sin t): halving h divides the error by 2^order."""
    start = torch.ones(1, 1, dtype=torch.float64)
    exact = math.exp(math.sin(1))
    errors = [
        abs(run(lambda x, t: x * t.cos(), start, solver, steps).item() - exact)
        for steps in (50, 100, 200)
    ]
    for coarse, fine in pairwise(errors):
        assert math.log2(coarse / fine) == pytest.approx(ORDER[solver], abs=0.1)


def test_adaptive_solver_keeps_its_tolerance() -> None:
    start = torch.ones(1, 1, dtype=torch.float64)
    found, evaluations = solve(lambda x, t: x, start, "dopri5", 1)
    assert found.item() == pytest.approx(math.e, rel=1e-4)
    assert 6 < evaluations < 100
    coarse, fewer = solve(lambda x, t: x, start, "dopri5", 1, tolerance=1e-1)
    assert fewer < evaluations
    assert coarse.item() == pytest.approx(math.e, rel=1e-1)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-5])
def test_adaptive_solver_never_looks_beyond_the_end(tolerance: float) -> None:
    """No network was trained for t > 1: what it says there must not touch the images."""
    seen = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t.item())
        return x.cos() if t.item() <= 1 else torch.full_like(x, 1e6)

    found, _ = solve(velocity, torch.zeros(1, 1, dtype=torch.float64), "dopri5", 1, tolerance)
    assert 0.99 < max(seen) <= 1
    # dx/dt = cos x from 0 ends at the Gudermannian of 1.
    assert found.item() == pytest.approx(math.atan(math.sinh(1)), abs=2 * tolerance)


@pytest.mark.parametrize("solver", FIXED)
def test_evaluations_are_counted(solver: SolverName) -> None:
    calls = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return x

    assert solve(velocity, torch.ones(1, 1), solver, 9)[1] == len(calls)


def test_euler_evaluates_at_the_left_ends() -> None:
    seen = []

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        seen.append(t.item())
        return torch.zeros_like(x)

    run(velocity, torch.zeros(3, 1), "euler", 4)
    assert seen == [0.0, 0.25, 0.5, 0.75]


def test_time_dependent_velocity() -> None:
    """dx/dt = 2t: Euler's left sum is 1 − 1/n, the second-order solvers are exact."""
    start = torch.zeros(2, 1, dtype=torch.float64)
    answers: dict[SolverName, float] = {"euler": 0.9, "midpoint": 1.0, "heun": 1.0}
    for solver, answer in answers.items():
        found = run(lambda x, t: 2 * t.expand_as(x), start, solver, 10)
        torch.testing.assert_close(found, torch.full_like(found, answer), atol=1e-6, rtol=0)


def test_start_is_not_changed() -> None:
    start = torch.ones(1, 1)
    run(lambda x, t: x, start, "euler", 3)
    assert start.item() == 1
