"""Every quantizer against a scalar loop over its definition."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from flowquant.quantization.levels import QUANTIZERS, normal_quantiles

Rows = list[list[float]]


def expand(levels: Tensor, indices: Tensor) -> Tensor:
    return levels.gather(1, indices.long())


def sample(kind: str) -> Tensor:
    draws = torch.Generator().manual_seed(3)
    rows = {
        "normal": torch.randn(3, 157, generator=draws),
        "tied": torch.randn(3, 157, generator=draws).mul(3).round() / 3,
        "positive": torch.rand(3, 157, generator=draws) + 0.1,
        "one sign a row": torch.randn(3, 157, generator=draws).abs()
        * torch.tensor([[1.0], [-1.0], [1.0]]),
        "constant": torch.full((2, 20), 0.75),
        "zero": torch.zeros(2, 20),
        "few": torch.tensor([[0.5, -2.0, 0.0]]),
    }
    return rows[kind]


KINDS = ["normal", "tied", "positive", "one sign a row", "constant", "zero", "few"]


def uniform(row: list[float], count: int) -> list[float]:
    low, high = min(row), max(row)
    levels = [low + (high - low) * k / (count - 1) for k in range(count)]
    return [min(levels, key=lambda level: (abs(level - w), level)) for w in row]


def equal_mass(row: list[float], count: int) -> list[float]:
    order = sorted(range(len(row)), key=lambda i: row[i])
    count = min(count, len(row))
    small, larger = divmod(len(row), count)
    result, start = [0.0] * len(row), 0
    for chunk in range(count):
        members = order[start : start + small + (chunk < larger)]
        start += len(members)
        for i in members:
            result[i] = sum(row[j] for j in members) / len(members)
    return result


def pwl(row: list[float], count: int) -> list[float]:
    ordered, n = sorted(row), len(row)

    def quantile(share: float) -> float:
        place = share * (n - 1)
        low = min(int(place), n - 1)
        high = min(low + 1, n - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    edges = [quantile(k / count) for k in range(count + 1)]
    result = []
    for w in row:
        # The last bin that begins at or below the value: an edge belongs to the upper bin.
        k = max([0, *(k for k in range(count) if torch.tensor(edges[k]) <= torch.tensor(w))])
        result.append((edges[k] + edges[k + 1]) / 2)
    return result


def log2(row: list[float], count: int) -> list[float]:
    negative = [-w for w in row if w < 0]
    positive = [w for w in row if w > 0]
    half = count // 2

    def spaced(magnitudes: list[float], size: int) -> list[float]:
        low, high = math.log2(min(magnitudes)), math.log2(max(magnitudes))
        return [2 ** (low + (high - low) * k / max(1, size - 1)) for k in range(size)]

    below = spaced(negative, half) if negative else []
    above = spaced(positive, half if negative else count) if positive else []
    result = []
    for w in row:
        if w == 0:
            result.append(math.nan)
        else:
            sign, levels = (-1, below) if w < 0 else (1, above)
            result.append(sign * min(levels, key=lambda level: abs(level - abs(w))))
    given = [w for w in result if not math.isnan(w)]
    smallest = min(given, key=abs) if given else 0.0
    return [smallest if math.isnan(w) else w for w in result]


def normal_float(row: list[float], count: int) -> list[float]:
    scale = max(abs(w) for w in row)
    levels = [scale * level for level in normal_quantiles(count).tolist()]
    return [min(levels, key=lambda level: abs(level - w)) for w in row]


ORACLES: dict[str, Callable[[list[float], int], list[float]]] = {
    "uniform": uniform,
    "equal_mass": equal_mass,
    "pwl": pwl,
    "log2": log2,
    "normal_float": normal_float,
}


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ORACLES)
def test_quantizer_is_as_defined(name: str, kind: str, bits: int) -> None:
    values = sample(kind)
    levels, indices = QUANTIZERS[name](values, 2**bits)
    wanted = torch.tensor([ORACLES[name](row, 2**bits) for row in values.tolist()])
    # Where a value is half-way between levels, rounding decides; errors must agree all the same.
    found = expand(levels, indices)
    same = torch.isclose(found, wanted, rtol=1e-5, atol=1e-6)
    tied = torch.isclose((found - values).abs(), (wanted - values).abs(), rtol=1e-4, atol=1e-6)
    assert (same | tied).all()
    assert same.float().mean() > 0.97 or name == "normal_float"


@pytest.mark.parametrize("bits", [1, 3, 8])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", QUANTIZERS)
def test_contract(name: str, kind: str, bits: int) -> None:
    values = sample(kind)
    levels, indices = QUANTIZERS[name](values, 2**bits)
    assert levels.dtype == values.dtype
    assert indices.dtype == torch.int32
    assert indices.shape == values.shape
    assert levels.shape[0] == len(values)
    assert levels.shape[1] <= 2**bits
    assert levels.isfinite().all()
    assert levels.diff(dim=1).ge(0).all()
    assert int(indices.min()) >= 0
    assert int(indices.max()) < levels.shape[1]
    if kind in ("constant", "zero") and name != "normal_float":
        torch.testing.assert_close(expand(levels, indices), values, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", QUANTIZERS)
def test_groups_do_not_mix(name: str) -> None:
    values = torch.cat([sample("normal"), 100 * sample("tied")])
    levels, indices = QUANTIZERS[name](values, 8)
    for row in range(len(values)):
        alone = expand(*QUANTIZERS[name](values[row : row + 1], 8))
        torch.testing.assert_close(expand(levels, indices)[row : row + 1], alone)


def test_equal_mass_goes_by_rank_where_values_tie() -> None:
    values = torch.tensor([[1.0, 1.0, 1.0, 1.0, 2.0, 2.0]])
    levels, indices = QUANTIZERS["equal_mass"](values, 2)
    assert indices.tolist() == [[0, 0, 0, 1, 1, 1]]
    torch.testing.assert_close(levels, torch.tensor([[1.0, 5 / 3]]))


def test_zeros_of_both_signs_are_equal_values() -> None:
    values = torch.tensor([[0.0, -0.0, 0.0, -0.0, -1.0, 1.0]])
    _, indices = QUANTIZERS["equal_mass"](values, 3)
    assert indices.tolist() == [[0, 1, 1, 2, 0, 2]]


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("power", [1, 3])
def test_clipped_uniform_is_the_best_of_many_ranges(bits: int, power: int) -> None:
    values = torch.randn(1, 3000, generator=torch.Generator().manual_seed(bits)) ** power

    def error(found: Tensor) -> float:
        return (found - values).double().square().sum().item()

    mine = error(expand(*QUANTIZERS["uniform_mse"](values, 2**bits)))
    low, high = values.min(), values.max()
    others = []
    for share in torch.linspace(0.02, 1, 60):
        clipped = values.clamp(low * share, high * share)
        step = (high - low) * share / (2**bits - 1)
        others.append(error(low * share + ((clipped - low * share) / step).round() * step))
    assert mine <= min(others) * 1.02
    assert mine <= error(expand(*QUANTIZERS["uniform"](values, 2**bits))) * 1.0001


def test_four_bit_normal_float_is_the_published_one() -> None:
    published = [
        *(-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0),
        *(0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0),
    ]
    torch.testing.assert_close(
        normal_quantiles(16), torch.tensor(published, dtype=torch.float64), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("name", QUANTIZERS)
def test_input_is_not_changed(name: str) -> None:
    values = sample("normal")
    before = values.clone()
    QUANTIZERS[name](values, 8)
    assert values.equal(before)
