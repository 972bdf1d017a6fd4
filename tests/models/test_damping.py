"""Hessians factored and solved, against torch's own."""

import pytest
import torch

from flowquant.models.damping import IndefiniteError, solved, upper_factor


def test_a_factor_and_a_solution() -> None:
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(30, 6, generator=draws, dtype=torch.float64)
    hessian, right = inputs.T @ inputs, torch.randn(6, 4, generator=draws, dtype=torch.float64)
    factor = upper_factor(hessian)
    assert factor.equal(factor.triu())
    torch.testing.assert_close(factor @ factor.T, hessian)
    torch.testing.assert_close(solved(hessian, right), torch.linalg.solve(hessian, right))
    assert solved(hessian.float(), right.float()).dtype == torch.float32


def test_what_is_no_hessian() -> None:
    with pytest.raises(IndefiniteError):
        solved(-torch.eye(3), torch.ones(3, 1))
