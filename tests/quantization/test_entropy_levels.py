"""Entropy-constrained levels against brute force, and against what is known of a Gaussian."""

from itertools import combinations
from math import log2

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowquant.config.method import MethodConfig
from flowquant.quantization.apply import quantize_tensor
from flowquant.quantization.codebook import bits_of
from flowquant.quantization.entropy_levels import assign, entropy_constrained
from flowquant.quantization.lloyd import Runs


def entropy(indices: Tensor) -> float:
    shares = (torch.bincount(indices.flatten().long()).double() / indices.numel()).tolist()
    return -sum(share * log2(share) for share in shares if share)


def error(values: Tensor, levels: Tensor, indices: Tensor) -> float:
    return (values - levels.gather(1, indices.long())).double().square().mean().item()


def cost(values: NDArray[np.float64], cuts: tuple[int, ...], price: float) -> float:
    """Of runs of sorted values: squared error ÷ variance and, at a price, entropy."""
    runs = np.split(values, cuts)
    squares = sum(((run - run.mean()) ** 2).sum() for run in runs) / len(values)
    shares = [len(run) / len(values) for run in runs]
    return float(squares / values.var() - price * sum(s * log2(s) for s in shares))


@pytest.mark.parametrize("price", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_values_get_the_optimum_or_nearly(count: int, price: float) -> None:
    ratios = []
    for seed in range(12):
        values = np.sort(np.random.default_rng(seed).standard_normal(14))
        least = min(
            cost(values, cuts, price)
            for most in range(count)
            for cuts in combinations(range(1, len(values)), most)
        )
        tensor = torch.from_numpy(values)[None]
        levels, indices = entropy_constrained(tensor, count, price)
        assert int(indices.max()) < levels.shape[1] <= count
        found = error(tensor, levels, indices) / values.var() + price * entropy(indices)
        assert found >= least - 1e-12
        ratios.append(found / least)
    # A descent from a few starts ends in a local optimum.
    assert np.median(ratios) < 1.0001
    assert max(ratios) < 1.2


@pytest.mark.parametrize(
    ("price", "bits", "most"), [(0.4, 1.11, 0.305), (0.1222, 2, 0.089), (0.0307, 3, 0.0222)]
)
def test_a_gaussian_costs_what_is_known(price: float, bits: float, most: float) -> None:
    values = torch.randn(1, 200_000, generator=torch.Generator().manual_seed(0))
    levels, indices = entropy_constrained(values, 64, price)
    rate, distortion = entropy(indices), error(values, levels, indices)
    assert rate == pytest.approx(bits, abs=0.02)
    # At this very rate; a bit more is a quarter of the error.
    assert distortion * 4 ** (rate - bits) < 1.01 * most
    assert distortion > 4**-rate


def test_the_cheapest_level_is_taken() -> None:
    draws = torch.Generator().manual_seed(0)
    values = torch.randn(3, 500, generator=draws).sort(dim=1).values
    runs = Runs.of(values)
    levels = torch.randn(3, 7, generator=draws).sort(dim=1).values.double()
    fees = torch.rand(3, 7, generator=draws).double()
    fees[1, 2] = torch.inf
    levels[2, 4] = levels[2, 3]
    costs = (runs.ordered[..., None] - levels[:, None]).square() + fees[:, None]
    cuts = assign(runs, levels, fees)
    sizes = torch.stack([torch.bincount(row, minlength=7) for row in costs.argmin(2)])
    assert cuts.diff(dim=1).equal(sizes)


def test_a_higher_price_makes_fewer_bits() -> None:
    values = torch.randn(1, 20_000, generator=torch.Generator().manual_seed(0))
    rates = [
        entropy(entropy_constrained(values, 16, price)[1]) for price in (0.01, 0.05, 0.2, 0.5, 3)
    ]
    assert rates == sorted(rates, reverse=True)
    # One level is cheapest where a bit costs more than all there is to gain.
    assert rates[-1] == 0


def test_groups_do_not_depend_on_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    scales = torch.tensor([[1.0], [0.0], [30.0], [1e-3]])
    values = torch.randn(4, 300, generator=torch.Generator().manual_seed(0)) * scales
    values[0, :200] = 0.5
    expected = torch.cat(
        [
            levels.gather(1, indices.long())
            for levels, indices in (entropy_constrained(row, 8, 0.1) for row in values.split(1))
        ]
    )
    for pairs in (1 << 22, 128):
        monkeypatch.setattr("flowquant.quantization.entropy_levels.MOST_PAIRS", pairs)
        levels, indices = entropy_constrained(values, 8, 0.1)
        assert levels.gather(1, indices.long()).equal(expected)
        assert bool((levels.diff(dim=1) >= 0).all())


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_values_and_few_levels(count: int) -> None:
    for values in ([3.0], [2.0, 2.0, 2.0], [0.0, 0.0, 1.0], [1.0, 2.0, 3.0, 4.0]):
        levels, indices = entropy_constrained(torch.tensor([values]), count, 1e-6)
        assert int(indices.max()) < count
        if len(set(values)) <= count:
            assert levels.gather(1, indices.long()).tolist() == [values]


def test_effective_bits_follow_the_price() -> None:
    weight = torch.randn(128, 512, generator=torch.Generator().manual_seed(0))
    sizes = []
    for price in (0.4, 0.25, 0.12):
        method = MethodConfig(levels=f"entropy:{price}", levels_dtype="float16", coding="ans")
        book = quantize_tensor(weight, method, 6)
        sizes.append(bits_of(book) / weight.numel())
        assert sizes[-1] == pytest.approx(entropy(book.indices), abs=0.02)
    assert [round(size, 1) for size in sizes] == [1.1, 1.5, 2.0]


@pytest.mark.parametrize(
    "levels", ["entropy:0", "entropy:0.0", "entropy:-1", "entropy:1e400", "entropy"]
)
def test_a_price_is_a_number_above_zero(levels: str) -> None:
    with pytest.raises(ValueError, match="levels"):
        MethodConfig(levels=levels, coding="ans")


def test_levels_for_a_coder_need_one() -> None:
    with pytest.raises(ValueError, match="levels that are chosen for their entropy"):
        MethodConfig(levels={"entropy": 0.1})  # type: ignore[arg-type]
    assert MethodConfig(levels={"entropy": 1e-5}, coding="ans").levels == "entropy:1e-05"  # type: ignore[arg-type]
