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
