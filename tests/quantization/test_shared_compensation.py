"""Compensation of shared levels, with scales or vectors, against brute force and least squares."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from flowquant.config.method import MethodConfig
from flowquant.models.damping import IndefiniteError
from flowquant.quantization import compensation
from flowquant.quantization.apply import quantize_tensor
from flowquant.quantization.codebook import Codebook
from flowquant.quantization.compensation import compensated
from flowquant.quantization.search import nearest_vectors
from flowquant.quantization.shared_compensation import _Problem

METHODS = [("lloyd", "scaled"), ("vector:2", "scaled"), ("vector:4", "tensor")]


def method(levels: str, granularity: str = "scaled") -> MethodConfig:
    return MethodConfig(levels=levels, granularity=granularity, scope="matrices")


def draws(seed: int, rows: int, n: int) -> tuple[Tensor, Tensor]:
    """A weight of uneven rows, and the Hessian of inputs that go together."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n, n, generator=generator)
    x = torch.randn(8 * n, n, generator=generator) @ mixed
    spread = torch.linspace(0.5, 3, rows)[:, None]
    return spread * torch.randn(rows, n, generator=generator), x.T @ x / len(x)


def error(weight: Tensor, book: Codebook, hessian: Tensor) -> float:
    """What compensation makes small, in float64."""
    hessian = hessian.double() + 0.01 * hessian.diagonal().mean() * torch.eye(len(hessian))
    off = (weight - book.expand()).flatten(1).double()
    return float(((off @ hessian) * off).sum())


def parts(book: Codebook, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Levels, scales and indices as a problem knows them."""
    scales = torch.ones(rows, 1) if book.scales is None else book.scales[:, None]
    return book.levels.view(-1, book.dimension), scales, book.indices.view(rows, -1).long()


def test_single_levels_are_rounded_as_those_of_a_tensor() -> None:
    weight, hessian = draws(0, 5, 150)
    start = quantize_tensor(weight, method("lloyd", "tensor"), 2)
    levels, scales, indices = parts(start, 5)
    one = _Problem.of(weight, hessian, 1, 0.01)
    other = compensation._Problem.of(weight.T.contiguous(), hessian, 0.01)
    tied = start.levels.T[None].contiguous()
    expected = other.rounded(tied)
    found = one.rounded(levels, scales)
    assert float((found == expected.T).double().mean()) > 0.999
    expected = other.revised(tied, indices.T.contiguous())
    found = one.revised(levels, scales, indices)
    assert float((found == expected.T).double().mean()) > 0.999


@pytest.mark.parametrize(("levels", "granularity"), METHODS)
def test_the_identity_is_plain_rounding(levels: str, granularity: str) -> None:
    weight, _ = draws(0, 6, 132)
    book = quantize_tensor(weight, method(levels, granularity), 2)
    problem = _Problem.of(weight, torch.eye(132), book.dimension, 0.01)
    vectors, scales, _ = parts(book, 6)
    goal = (weight / scales).view(1, -1, book.dimension)
    expected = nearest_vectors(goal, vectors[None]).view(6, -1).long()
    indices = problem.rounded(vectors, scales)
    assert indices.equal(expected)
    assert problem.revised(vectors, scales, indices).equal(expected)


def test_a_vector_is_rounded_where_the_rest_would_do_best() -> None:
    """After the first vector, the second's goal and metric are those of least squares over it."""
    weight, hessian = draws(1, 4, 6)
    problem = _Problem.of(weight, hessian, 2, 0.01)
    levels = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    found = problem.rounded(levels, torch.ones(4, 1))
    ordered = problem.hessian[problem.columns][:, problem.columns].double()
    values = weight[:, problem.columns].double()
    for row in range(4):
        taken = torch.empty(0, dtype=torch.float64)
        for place, vector in enumerate(problem.order):
            costs = []
            for level in levels.double():
                fixed = torch.cat([taken, level])
                off = values[row, : len(fixed)] - fixed
                # What is left by the best of all values after them.
                k = len(fixed)
                rest = ordered[:k, :k]
                if k < 6:
                    tail = torch.linalg.solve(ordered[k:, k:], ordered[k:, :k])
                    rest = rest - ordered[:k, k:] @ tail
                costs.append(float(off @ rest @ off))
            best = min(range(8), key=costs.__getitem__)
            assert int(found[row, vector]) == best, place
            taken = torch.cat([taken, levels[best].double()])


@pytest.mark.parametrize("seed", range(10))
def test_between_the_optimum_and_rounding(seed: int) -> None:
    weight, hessian = draws(seed, 1, 6)
    start = quantize_tensor(weight, method("vector:2", "tensor"), 0.5)
    damped = hessian.double() + 0.01 * hessian.diagonal().mean() * torch.eye(6)
    root, wanted = torch.linalg.cholesky(damped).T, weight[0].double()
    least = torch.inf
    for sides in product((0, 1), repeat=3):
        chosen = torch.nn.functional.one_hot(torch.tensor(sides), 2).double()
        chosen = root @ torch.kron(chosen, torch.eye(2, dtype=torch.float64))
        goal = (root @ wanted)[:, None]
        # The best levels for these sides: least squares under the Hessian's root.
        best = torch.linalg.lstsq(chosen, goal, driver="gelsd").solution
        least = min(least, float((goal - chosen @ best).square().sum()))
    found = error(weight, compensated(weight, hessian, start), hessian)
    assert least - 1e-6 <= found <= error(weight, start, hessian) + 1e-6


@pytest.mark.parametrize(("levels", "granularity"), METHODS)
def test_fitted_levels_and_scales_are_a_minimum(levels: str, granularity: str) -> None:
    weight, hessian = draws(2, 24, 64)
    book = quantize_tensor(weight, method(levels, granularity), 1)
    problem = _Problem.of(weight, hessian, book.dimension, 1e-6)
    vectors, scales, indices = parts(book, 24)
    fitted = vectors
    for _ in range(20):
        fitted = problem.refitted(fitted, scales, indices)
    rescaled = problem.rescaled(vectors, scales, indices)
    # In float64: a row may weigh so little that float32's sum of all does not show it.
    exact = replace(problem, values=problem.values.double(), hessian=problem.hessian.double())

    def cost(levels: Tensor, scales: Tensor) -> float:
        return exact.error(levels.double(), scales.double(), indices)

    least = cost(fitted, scales), cost(vectors, rescaled)
    assert max(least) < cost(vectors, scales)
    for step in (0.99, 1.01):
        for level in range(len(vectors)):
            other = fitted.clone()
            other[level] *= step
            assert cost(other, scales) > least[0]
        for row in range(24):
            other = rescaled.clone()
            other[row] *= step
            assert cost(vectors, other) > least[1]


@pytest.mark.parametrize(("levels", "granularity"), METHODS)
@pytest.mark.parametrize("bits", [1, 2])
def test_far_less_error_in_as_many_bytes(levels: str, granularity: str, bits: int) -> None:
    weight, hessian = draws(3, 96, 64)
    weight[7] = 0
    start = quantize_tensor(weight, method(levels, granularity), bits)
    book = compensated(weight, hessian, start)
    assert error(weight, book, hessian) < 0.7 * error(weight, start, hessian)
    assert book.stored_bits <= start.stored_bits
    assert book.levels.dtype == start.levels.dtype
    assert (book.scales is None) == (start.scales is None)
    if start.scales is not None:
        assert bool((book.expand()[7] == 0).all())
    if book.dimension == 1:
        assert bool((book.levels.diff(dim=1) > 0).all())


def test_a_target_takes_the_weights_place() -> None:
    weight, hessian = draws(4, 8, 32)
    start = quantize_tensor(weight, method("vector:2"), 2)
    target = weight + 0.3 * torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
    moved = compensated(weight, hessian, start, target=target)
    assert error(target, moved, hessian) < error(
        target, compensated(weight, hessian, start), hessian
    )


def test_float16_levels_are_what_is_measured() -> None:
    weight, hessian = draws(5, 16, 64)
    halves = replace(method("lloyd"), levels_dtype="float16")
    book = compensated(weight, hessian, quantize_tensor(weight, halves, 2))
    assert book.levels.dtype == torch.float16
    assert book.scales is not None
    assert book.scales.dtype == torch.float16


def test_an_indefinite_hessian_is_refused() -> None:
    weight, hessian = draws(6, 4, 8)
    start = quantize_tensor(weight, method("vector:2"), 1)
    with pytest.raises(IndefiniteError):
        compensated(weight, -hessian, start)
