"""Solvers on velocity fields whose solution is known."""

import math

import pytest
import torch

from flowquant.solver import euler


def test_constant_velocity_is_exact():
    x = torch.randn(5, 2, dtype=torch.float64)
    torch.testing.assert_close(euler(lambda x, t: torch.full_like(x, 3.0), x, 7), x + 3)


def test_euler_on_exponential_growth():
    """dx/dt = x: n Euler steps give exactly (1 + 1/n)^n, and e in the limit, at first order."""
    start = torch.ones(1, 1, dtype=torch.float64)
    errors = []
    for steps in (50, 100, 200):
        found = euler(lambda x, t: x, start, steps).item()
        assert found == pytest.approx((1 + 1 / steps) ** steps, rel=1e-12)
        errors.append(math.e - found)
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)


def test_euler_evaluates_at_the_left_ends():
    seen = []

    def velocity(x, t):
        seen.append(t[0].item())
        assert t.shape == (3,)
        return torch.zeros_like(x)

    euler(velocity, torch.zeros(3, 1), 4)
    assert seen == [0.0, 0.25, 0.5, 0.75]


def test_time_dependent_velocity():
    """dx/dt = 2t: Euler's left sum is 1 − 1/n."""
    found = euler(lambda x, t: (2 * t)[:, None], torch.zeros(2, 1, dtype=torch.float64), 10)
    torch.testing.assert_close(found, torch.full_like(found, 0.9))


def test_start_is_not_changed():
    start = torch.ones(1, 1)
    euler(lambda x, t: x, start, 3)
    assert start.item() == 1
