"""Systems of linear equations, against torch's own solution."""

import torch

from flowquant.quantization.conjugate import conjugate_gradients


def test_systems_side_by_side_are_solved_exactly_in_as_many_steps_as_they_are_long() -> None:
    draws = torch.Generator().manual_seed(0)
    factor = torch.randn(3, 5, 5, generator=draws, dtype=torch.float64)
    matrix = factor @ factor.mT + torch.eye(5)
    right = torch.randn(5, 3, generator=draws, dtype=torch.float64)
    wanted = torch.linalg.solve(matrix, right.T[..., None])[..., 0].T

    def applied(x: torch.Tensor) -> torch.Tensor:
        return (matrix @ x.T[..., None])[..., 0].T

    diagonal = matrix.diagonal(dim1=1, dim2=2).T
    torch.testing.assert_close(conjugate_gradients(applied, right, diagonal, 5, 0), wanted)
    # A few steps more, when nothing is left, change nothing.
    torch.testing.assert_close(conjugate_gradients(applied, right, diagonal, 9, 0), wanted)


def test_one_system_of_any_form() -> None:
    right = torch.tensor([[2.0, 0.0], [3.0, 8.0]])
    diagonal = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    found = conjugate_gradients(lambda x: diagonal * x, right, torch.ones(2, 2), 4)
    torch.testing.assert_close(found, right / diagonal)
