"""Levels that are trained: their gradients, and how values find their level."""

import pytest
import torch

from flowquant.quantization.codebook import Codebook
from flowquant.training.trainable import TrainableLevels


@pytest.mark.parametrize("count", [4, 32])
def test_gradient_of_a_level_is_the_sum_over_its_values(count: int) -> None:
    draws = torch.Generator().manual_seed(0)
    books = {
        name: Codebook(
            torch.randn(groups, count, generator=draws),
            torch.randint(count, (groups, 12), generator=draws, dtype=torch.int32),
            (groups, 12),
        )
        for name, groups in (("a", 3), ("b", 2))
    }
    levels = TrainableLevels(books, torch.device("cpu"))
    assert len(levels.levels) == 1
    weights = levels.expand()
    factors = {name: torch.randn(book.shape, generator=draws) for name, book in books.items()}
    sum((weights[name] * factors[name]).sum() for name in books).backward()  # type: ignore[union-attr]
    for rows, (name, book) in zip((slice(0, 3), slice(3, 5)), books.items(), strict=True):
        assert weights[name].equal(book.expand())
        wanted = torch.zeros_like(book.levels).scatter_add_(1, book.indices.long(), factors[name])
        torch.testing.assert_close(levels.levels[0].grad[rows], wanted)  # type: ignore[index]


def test_trained_values_take_the_nearest_level_and_the_gradient_passes_through() -> None:
    book = Codebook(torch.tensor([[3.0, -1.0]]), torch.tensor([[0, 0, 1]], dtype=torch.int32), (3,))
    original = torch.tensor([2.0, 0.5, -4.0])
    levels = TrainableLevels({"w": book}, torch.device("cpu"), {"w": original})
    weights = levels.expand()["w"]
    assert weights.tolist() == [3.0, -1.0, -1.0]
    (weights * torch.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert levels.levels[0].grad.tolist() == [[1.0, 110.0]]  # type: ignore[union-attr]
    assert levels.values[0].grad.tolist() == [[1.0, 10.0, 100.0]]  # type: ignore[union-attr]
    assert levels.codebooks()["w"].expand().equal(weights)


def test_reassignment_gives_the_nearest_level() -> None:
    book = Codebook(torch.tensor([[5.0, -1.0]]), torch.tensor([[0, 0, 0]], dtype=torch.int32), (3,))
    levels = TrainableLevels({"w": book}, torch.device("cpu"))
    share = levels.reassign({"w": torch.tensor([4.0, 0.0, -9.0])})
    assert levels.codebooks()["w"].expand().tolist() == [5.0, -1.0, -1.0]
    assert share == pytest.approx(2 / 3)


@pytest.mark.parametrize("d", [1, 2])
def test_gradients_of_scales_and_vectors_are_those_of_what_they_make(d: int) -> None:
    draws = torch.Generator().manual_seed(0)
    form = (1, 5) if d == 1 else (1, 5, d)
    books = {
        name: Codebook(
            torch.randn(form, generator=draws),
            torch.randint(5, (1, 24 // d), generator=draws, dtype=torch.int32),
            (4, 6),
            scales=torch.rand(4, generator=draws) + 0.5,
        )
        for name in "ab"
    }
    trained = TrainableLevels(books, torch.device("cpu"))
    weights = trained.expand()
    factor = torch.randn(4, 6, generator=draws)
    sum((weight * factor).sum() for weight in weights.values()).backward()  # type: ignore[union-attr]
    for place, (name, book) in enumerate(books.items()):
        assert weights[name].equal(book.expand())
        levels, scales = book.levels.clone().requires_grad_(), book.scales.clone().requires_grad_()  # type: ignore[union-attr]
        chosen = levels[0][book.indices[0].long()].view(4, 6)
        (chosen * scales[:, None] * factor).sum().backward()
        torch.testing.assert_close(trained.levels[0].grad[place], levels.grad[0])  # type: ignore[index]
        torch.testing.assert_close(trained.scales[0].grad[place], scales.grad)  # type: ignore[index]
    for name, book in trained.codebooks().items():
        assert book.expand().equal(books[name].expand())


@pytest.mark.parametrize("d", [1, 2])
def test_scaled_values_take_what_is_nearest_to_them_by_their_scale(d: int) -> None:
    draws = torch.Generator().manual_seed(0)
    levels = torch.randn((1, 5) if d == 1 else (1, 5, d), generator=draws)
    scales = torch.tensor([0.5, 2.0, 0.0])
    values = torch.randn(3, 6, generator=draws) * 2
    indices = torch.zeros(1, 18 // d, dtype=torch.int32)
    book = Codebook(levels, indices, (3, 6), scales=scales)
    trained = TrainableLevels({"w": book}, torch.device("cpu"), {"w": values})
    weights = trained.expand()["w"]
    vectors = levels[0].view(5, d)
    for row in (0, 1):
        for part in range(6 // d):
            own = slice(part * d, part * d + d)
            distances = (values[row, own] - scales[row] * vectors).square().sum(1)
            torch.testing.assert_close(weights[row, own], scales[row] * vectors[distances.argmin()])
    assert bool((weights[2] == 0).all())
    factor = torch.randn(3, 6, generator=draws)
    (weights * factor).sum().backward()
    # A value's gradient passes straight through, but for that of a row which has no scale.
    gradient = trained.values[0].grad.view(3, 6)  # type: ignore[union-attr]
    torch.testing.assert_close(gradient[:2], factor[:2])
    assert bool((gradient[2] == 0).all())
    assert trained.codebooks()["w"].expand().equal(weights.detach())
