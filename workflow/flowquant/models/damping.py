"""Hessians of layers' inputs, damped and factored, for those who round under them."""

from __future__ import annotations

import torch
from torch import Tensor


class IndefiniteError(ArithmeticError):
    """A Hessian that is none, or is singular but for rounding."""


def damped(hessian: Tensor, damping: float) -> Tensor:
    """A Hessian with a share of its mean diagonal added to it; the identity, if it is 0."""
    scale = hessian.diagonal().mean()
    # Inputs that are always 0 tell nothing: all values count alike.
    added = damping * scale if scale > 0 else 1
    return hessian + added * torch.eye(len(hessian), device=hessian.device)


def upper_factor(hessian: Tensor) -> Tensor:
    """The upper triangular U of H = U·Uᵀ, float64, for H [n, n] float64.

    Raises:
        IndefiniteError: if there is none.
    """
    # Cholesky's factor from the last row and column on.
    factor, failed = torch.linalg.cholesky_ex(hessian.flip(0, 1))
    if failed or not factor.isfinite().all():
        raise IndefiniteError("a Hessian that is not positive definite")
    return factor.flip(0, 1)


def solved(hessian: Tensor, right: Tensor) -> Tensor:
    """H⁻¹·B for H [n, n] and B [n, m], computed in float64.

    Raises:
        IndefiniteError: as `upper_factor`.
    """
    factor = upper_factor(hessian.double())
    # H = U·Uᵀ.
    half = torch.linalg.solve_triangular(factor, right.double(), upper=True)
    return torch.linalg.solve_triangular(factor.T, half, upper=False).to(right.dtype)
