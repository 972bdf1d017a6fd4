"""`lloyd` against the exact optimum by dynamic programming."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from flowquant.quantization.lloyd import lloyd

Array = NDArray[np.float64]
Indices = NDArray[np.int64]


def least_error(values: Array, count: int) -> float:
    """The least squared error of ``count`` levels: divide and conquer over monotone choices."""
    x = np.sort(values)
    x -= x.mean()
    n = len(x)
    first, second = (np.concatenate([[0], np.cumsum(part)]) for part in (x, x * x))

    def cost(start: Indices, end: Indices) -> Array:
        size = np.maximum(end - start, 1)
        return np.maximum(second[end] - second[start] - (first[end] - first[start]) ** 2 / size, 0)

    least = cost(np.zeros(n + 1, int), np.arange(n + 1))
    for _ in range(count - 1):
        better = np.empty(n + 1)
        low, high = np.array([0]), np.array([n])
        least_choice, most_choice = np.array([0]), np.array([n])
        while len(low):
            middle = (low + high) // 2
            choices = np.minimum(most_choice, middle) - least_choice + 1
            starts = np.concatenate([[0], np.cumsum(choices)[:-1]])
            start = np.arange(choices.sum()) + np.repeat(least_choice - starts, choices)
            totals = least[start] + cost(start, np.repeat(middle, choices))
            best = np.minimum.reduceat(totals, starts)
            better[middle] = best
            choice = np.where(totals == np.repeat(best, choices), start, n + 1)
            choice = np.minimum.reduceat(choice, starts)
            low, high = np.r_[low, middle + 1], np.r_[middle - 1, high]
            least_choice, most_choice = np.r_[least_choice, choice], np.r_[choice, most_choice]
            todo = low <= high
            low, high = low[todo], high[todo]
            least_choice, most_choice = least_choice[todo], most_choice[todo]
        least = better
    return float(least[n])


def draws(kind: str, n: int) -> NDArray[np.float32]:
    random = np.random.default_rng(n)
    samples = {
        "normal": lambda: random.standard_normal(n),
        "student": lambda: random.standard_t(2.5, n),
        "laplace": lambda: random.laplace(size=n),
        "bimodal": lambda: np.r_[random.normal(-3, 0.3, n // 2), random.normal(2, 1, n - n // 2)],
        "tied": lambda: np.round(random.standard_normal(n) * 8) / 8,
        "half zero": lambda: np.r_[np.zeros(n // 2), random.standard_normal(n - n // 2)],
    }
    return samples[kind]().astype(np.float32)


def squared_error(values: torch.Tensor, levels: torch.Tensor, indices: torch.Tensor) -> float:
    found = levels.double().gather(1, indices.long())
    return (found - values.double()).square().sum().item()


@pytest.mark.parametrize("bits", range(1, 7))
@pytest.mark.parametrize("kind", ["normal", "student", "laplace", "bimodal", "tied", "half zero"])
@pytest.mark.parametrize("n", [300, 4000])
def test_within_a_thousandth_of_the_optimum(kind: str, n: int, bits: int) -> None:
    values = draws(kind, n)
    levels, indices = lloyd(torch.from_numpy(values)[None], 2**bits)
    found = squared_error(torch.from_numpy(values)[None], levels, indices)
    assert found <= 1.001 * least_error(values.astype(np.float64), 2**bits) + 1e-9


def test_groups_are_quantized_each_by_itself() -> None:
    rows = torch.stack([torch.from_numpy(draws(kind, 500)) for kind in ("normal", "laplace")])
    levels, indices = lloyd(rows, 8)
    for row in range(2):
        alone, its_indices = lloyd(rows[row : row + 1], 8)
        torch.testing.assert_close(levels[row : row + 1], alone)
        assert indices[row : row + 1].equal(its_indices)


def test_many_rows_come_near_the_optimum() -> None:
    rows = torch.randn(512, 384, generator=torch.Generator().manual_seed(0))
    levels, indices = lloyd(rows, 4)
    best = sum(least_error(row.double().numpy(), 4) for row in rows)
    assert squared_error(rows, levels, indices) <= 1.01 * best


def test_tied_values_share_a_level_and_enough_levels_are_exact() -> None:
    values = torch.tensor([[3.0, -1.0, 3.0, 0.5, -1.0, 0.5]])
    levels, indices = lloyd(values, 4)
    assert levels.gather(1, indices.long()).equal(values)


@pytest.mark.parametrize("values", [[[2.0]], [[2.0, 2.0, 2.0]], [[1.0, 2.0]]])
def test_few_or_constant_values(values: list[list[float]]) -> None:
    given = torch.tensor(values)
    levels, indices = lloyd(given, 16)
    assert levels.gather(1, indices.long()).equal(given)
    assert levels.diff(dim=1).ge(0).all()


@pytest.mark.parametrize("kind", ["normal", "student", "laplace", "bimodal"])
def test_nearly_as_many_levels_as_values(kind: str) -> None:
    """Rows of a network at 8 bits: cuts in the widest gaps, not where the density says."""
    values = np.stack([draws(kind, 384 + i)[:384] for i in range(20)])
    levels, indices = lloyd(torch.from_numpy(values), 256)
    found = (levels.gather(1, indices.long()) - torch.from_numpy(values)).double().square().sum()
    least = sum(least_error(row.astype(float), 256) for row in values)
    assert least <= found.item() < 2 * least
