"""Compensation against brute force, the textbook's inverse and plain rounding."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from flowquant.config.method import MethodConfig
from flowquant.models.damping import IndefiniteError
from flowquant.quantization.apply import quantize_tensor
from flowquant.quantization.codebook import Codebook
from flowquant.quantization.compensation import _Problem, compensated
from flowquant.quantization.search import nearest

GRANULARITIES = ("tensor", "row", "group:32")


def method(granularity: str = "row", levels: str = "lloyd") -> MethodConfig:
    return MethodConfig(levels=levels, granularity=granularity, scope="matrices")


def draws(seed: int, rows: int, n: int) -> tuple[Tensor, Tensor]:
    """A weight, and the Hessian of inputs that go together."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n, n, generator=generator)
    x = torch.randn(8 * n, n, generator=generator) @ mixed
    return torch.randn(rows, n, generator=generator), x.T @ x / len(x)


def error(weight: Tensor, book: Codebook, hessian: Tensor, damping: float = 0.01) -> float:
    """What compensation makes small, in float64."""
    hessian = hessian.double() + damping * hessian.diagonal().mean() * torch.eye(len(hessian))
    off = (weight - book.expand()).flatten(1).double()
    return float(((off @ hessian) * off).sum())


@pytest.mark.parametrize("seed", range(20))
def test_between_the_optimum_and_rounding(seed: int) -> None:
    weight, hessian = draws(seed, 1, 3)
    start = quantize_tensor(weight, method(), 1)
    least = torch.inf
    for sides in product((0, 1), repeat=3):
        chosen = torch.nn.functional.one_hot(torch.tensor(sides), 2).double()
        damped = hessian.double() + 0.01 * hessian.diagonal().mean() * torch.eye(3)
        # The best levels for these sides: least squares under the Hessian's root.
        root = torch.linalg.cholesky(damped).T
        solution = torch.linalg.lstsq(
            root @ chosen, root @ weight[0].double()[:, None], driver="gelsd"
        )
        off = weight[0].double() - (chosen @ solution.solution)[:, 0]
        least = min(least, float(off @ damped @ off))
    found = error(weight, compensated(weight, hessian, start), hessian)
    assert least - 1e-6 <= found <= error(weight, start, hessian) + 1e-6


def test_three_values_on_the_average_near_the_optimum() -> None:
    # So that "no worse than rounding" is not all that the test above holds.
    gains = []
    for seed in range(20):
        weight, hessian = draws(seed, 1, 3)
        start = quantize_tensor(weight, method(), 1)
        after = error(weight, compensated(weight, hessian, start), hessian)
        gains.append(after / error(weight, start, hessian))
    assert sum(gains) / len(gains) < 0.6


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bits", [1, 3, 6])
def test_the_identity_is_plain_rounding(granularity: str, bits: int) -> None:
    weight, _ = draws(0, 5, 64)
    start = quantize_tensor(weight, method(granularity, "uniform"), bits)
    size = start.indices.shape[1]
    problem = _Problem.of(weight.T.contiguous(), torch.eye(64), 0.01)
    levels = start.levels.view(1 if granularity == "tensor" else 5, -1, start.levels.shape[1])
    indices = problem.rounded(levels.permute(1, 2, 0).contiguous())
    rounded = nearest(weight.reshape(-1, size), start.levels)
    assert indices.T.reshape(-1, size).equal(rounded.long())
    revised = problem.revised(levels.permute(1, 2, 0).contiguous(), indices)
    assert revised.equal(indices)


def test_the_identity_leaves_optimal_levels_where_they_are() -> None:
    weight, _ = draws(0, 4, 64)
    start = quantize_tensor(weight, method(), 2)
    book = compensated(weight, torch.eye(64), start)
    torch.testing.assert_close(book.expand(), start.expand(), rtol=0.02, atol=0.02)


def test_the_feedback_is_the_textbooks() -> None:
    """GPTQ as published: columns one by one, the rest updated by the inverse's Cholesky factor."""
    weight, hessian = draws(3, 6, 150)
    start = quantize_tensor(weight, method(), 2)
    problem = _Problem.of(weight.T.contiguous(), hessian, 0.01)
    found = problem.rounded(start.levels.T[None].contiguous()).T
    order = problem.order
    inverse = torch.linalg.inv(problem.hessian[order][:, order].double())
    upper = torch.linalg.cholesky(inverse, upper=True)
    rest = weight[:, order].double()
    expected = torch.empty(6, 150, dtype=torch.int64)
    for j in range(150):
        index = nearest(rest[:, j : j + 1].contiguous(), start.levels.double())
        expected[:, order[j]] = index[:, 0].long()
        off = rest[:, j] - start.levels.double().gather(1, index.long())[:, 0]
        rest[:, j + 1 :] -= torch.outer(off / upper[j, j], upper[j, j + 1 :])
    assert float((found == expected).double().mean()) > 0.999


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bits", [1, 2, 4, 6])
def test_no_step_raises_the_error(granularity: str, bits: int) -> None:
    weight, hessian = draws(1, 6, 128)
    start = quantize_tensor(weight, method(granularity), bits)
    book = compensated(weight, hessian, start)
    share = 0.8 if bits < 6 else 1
    assert error(weight, book, hessian) <= share * error(weight, start, hessian)
    assert book.levels.dtype == start.levels.dtype
    assert book.levels.shape[1] <= 2**bits
    assert bool((book.levels.diff(dim=1) >= 0).all())
    assert book.shape == (6, 128)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_refitted_levels_are_a_minimum(granularity: str) -> None:
    weight, hessian = draws(2, 6, 64)
    start = quantize_tensor(weight, method(granularity), 2)
    problem = _Problem.of(weight.T.contiguous(), hessian, 1e-9)
    levels = start.levels.view(1 if granularity == "tensor" else 6, -1, 4)
    levels = levels.permute(1, 2, 0).contiguous()
    indices = start.indices.view(6, 64).T.long().contiguous()
    least, moved = problem.refitted(levels, indices)
    before = problem.error(levels, indices)
    found = problem.error(least, moved)
    assert found < before
    if granularity != "group:32":  # whose blocks are fitted one after the other
        for step in (-0.01, 0.01):
            for level in range(4):
                other = least.clone()
                other[:, level] += step
                assert problem.error(other, moved) > found


@pytest.mark.parametrize("count", [1, 2])
def test_one_column_is_rounded(count: int) -> None:
    weight = torch.tensor([[0.1], [0.9], [1.2], [-3.0]])
    start = Codebook(torch.tensor([[0.0, 1.0][:count]] * 4), torch.zeros(4, 1).int(), (4, 1))
    book = compensated(weight, torch.tensor([[5.0]]), start, damping=1e9)
    torch.testing.assert_close(
        book.expand(), torch.tensor([[0.0], [1.0], [1.0], [0.0]][:4]) * (count - 1)
    )


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_inputs_that_are_always_zero(share: float) -> None:
    """A singular Hessian, or none at all, is no obstacle."""
    weight, hessian = draws(4, 3, 16)
    dead = torch.arange(16) >= 16 * share
    hessian[dead] = 0
    hessian[:, dead] = 0
    start = quantize_tensor(weight, method(), 2)
    book = compensated(weight, hessian, start)
    assert error(weight, book, hessian) <= error(weight, start, hessian)


def test_a_hessian_that_is_none() -> None:
    weight, hessian = draws(5, 3, 16)
    start = quantize_tensor(weight, method(), 2)
    with pytest.raises(IndefiniteError, match="not positive definite"):
        compensated(weight, hessian - 2 * hessian.diagonal().diag(), start)
    with pytest.raises(IndefiniteError, match="not positive definite"):
        compensated(weight, hessian * torch.nan, start)


def test_a_kernel_keeps_its_shape() -> None:
    weight, hessian = draws(6, 4, 18)
    kernel = weight.view(4, 2, 3, 3)
    start = quantize_tensor(kernel, method(), 2)
    book = compensated(kernel, hessian, start)
    assert book.expand().shape == (4, 2, 3, 3)
    assert error(kernel, book, hessian) < error(kernel, start, hessian)
