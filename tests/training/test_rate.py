"""The price of bits: soft entropies, and refinement that heeds it."""

from __future__ import annotations

from math import log2

import pytest
import torch
from torch import Tensor

from flowquant.quantization.codebook import Codebook
from flowquant.quantization.levels import quantizer_of
from flowquant.training.rate import entropy, soft_shares, temperatures
from flowquant.training.trainable import TrainableLevels


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_entropy_is_its_definition() -> None:
    shares = torch.tensor([[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(entropy(shares), torch.tensor([1.5, 0.0]))


@pytest.mark.parametrize("d", [1, 2])
def test_shares_of_a_cold_group_are_those_of_its_nearest_levels(d: int) -> None:
    values = draws(3, 60)
    levels = draws(3, 5, d, seed=1)
    cold = torch.full((3, 1, 1), 1e-6)
    found = soft_shares(values, levels[..., 0] if d == 1 else levels, cold)
    for row in range(3):
        nearest = torch.cdist(values[row].view(-1, d), levels[row]).argmin(1)
        share = nearest.bincount(minlength=5) / len(nearest)
        torch.testing.assert_close(found[row], share)


@pytest.mark.parametrize(("levels", "bits"), [("lloyd", 2), ("vector:2", 1)])
def test_rate_is_near_what_coding_takes(levels: str, bits: int) -> None:
    values = draws(8, 512)
    count = 2 ** (bits * (2 if levels == "vector:2" else 1))
    found, indices = quantizer_of(levels)(values.reshape(1, -1), count)
    book = Codebook(found, indices, (8, 512))
    trained = TrainableLevels({"w": book}, torch.device("cpu"), {"w": values})
    rate = trained.rate()
    shares = indices.flatten().bincount(minlength=count) / indices.numel()
    hard = -sum(p * log2(p) for p in shares.tolist()) * indices.numel() / values.numel()
    assert float(rate.detach()) == pytest.approx(hard, rel=0.05)


def test_a_tensors_groups_have_one_table() -> None:
    # Each row takes one level, but the two rows one of their own each: a bit a value, not none.
    books = {
        "w": Codebook(
            torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]), torch.zeros(2, 8, dtype=torch.int32), (2, 8)
        )
    }
    values = torch.tensor([[-1.0], [1.0]]).expand(2, 8).clone()
    trained = TrainableLevels(books, torch.device("cpu"), {"w": values})
    trained._temperatures = [torch.full((2, 1, 1), 0.01)]
    assert float(trained.rate().detach()) == pytest.approx(1)


def test_a_step_down_the_rate_draws_values_to_levels_that_many_have() -> None:
    values = torch.cat([torch.zeros(30), torch.tensor([0.55])]).view(1, -1)
    book = Codebook(
        torch.tensor([[0.0, 1.0]]), torch.zeros(1, 31, dtype=torch.int32), (1, 31), "ans"
    )
    trained = TrainableLevels({"w": book}, torch.device("cpu"), {"w": values.clone()})
    trained.rate().backward()
    gradient = trained.values[0].grad
    assert gradient is not None
    assert float(gradient[0, -1]) > 0
    assert float(gradient[0, -1]) > 10 * float(gradient[0, 0].abs())


def test_temperatures_follow_the_width_and_the_values() -> None:
    values = draws(2, 100) * torch.tensor([[1.0], [3.0]])
    two, three = (temperatures(values, torch.zeros(2, count)) for count in (4, 8))
    torch.testing.assert_close(two, 4 * three)
    assert float(two[1] / two[0]) == pytest.approx(9, rel=0.5)
    # As many levels a value, in pairs.
    pairs = temperatures(values, torch.zeros(2, 16, 2))
    torch.testing.assert_close(pairs, 2 * two)
