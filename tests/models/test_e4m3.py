"""Weights rounded to e4m3 so that errors make up for one another."""

from __future__ import annotations

import torch
from torch import Tensor

from flowquant.models import e4m3
from flowquant.models.e4m3 import E4M3, Covariance, power_of_two, rounded, rounded_in_order


def inputs(n: int, generator: torch.Generator) -> Tensor:
    """That go together, about a mean."""
    few = torch.randn(4000, n // 4, generator=generator)
    mixed = few @ torch.randn(n // 4, n, generator=generator)
    return (
        mixed
        + 0.1 * torch.randn(4000, n, generator=generator)
        + torch.randn(n, generator=generator)
    )


def covariance(x: Tensor) -> Tensor:
    seen = Covariance(x.shape[1], x.device)
    for part in x.split(700):
        seen.add(part)
    return seen.value


def error(weight: Tensor, found: Tensor, by: float, x: Tensor) -> float:
    """Of outputs, but for their means: mean square."""
    change = x @ (found.float() * by - weight).T
    return (change - change.mean(0)).square().mean().item()


def test_a_covariance_is_that_of_all_that_was_seen() -> None:
    x = inputs(24, torch.Generator().manual_seed(0))
    torch.testing.assert_close(covariance(x), x.T.cov(correction=0), rtol=1e-4, atol=1e-4)
    assert not Covariance(3, x.device).value.any()


def test_outputs_change_less_than_by_the_nearest_values() -> None:
    """More inputs than a block holds, and weights of several scales."""
    generator = torch.Generator().manual_seed(0)
    xs = [inputs(144, generator) for _ in range(3)]
    weights = [10.0**k * torch.randn(40, 144, generator=generator) for k in range(3)]
    by = [power_of_two(weight.abs().max().item()) for weight in weights]
    found = rounded_in_order(weights, by, [covariance(x) for x in xs])
    for weight, x, b, own in zip(weights, xs, by, found, strict=True):
        assert (own.dtype, own.shape) == (E4M3, weight.shape)
        assert error(weight, own, b, x) < 0.2 * error(weight, rounded(weight, b), b, x)


def test_each_is_rounded_as_by_itself() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(16, 80, generator=generator) for _ in range(2)]
    covariances = [covariance(inputs(80, generator)) for _ in range(2)]
    together = rounded_in_order(weights, [0.5, 0.25], covariances)
    for index, b in enumerate([0.5, 0.25]):
        [alone] = rounded_in_order([weights[index]], [b], [covariances[index]])
        same = (alone.float() == together[index].float()).float().mean()
        # Sums in another order round otherwise, half-way between two values.
        assert same > 0.99


def test_where_nothing_is_known_of_inputs_values_are_the_nearest() -> None:
    weight = torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    for none in (torch.zeros(32, 32), -torch.eye(32), torch.full((32, 32), torch.nan)):
        [found] = rounded_in_order([weight], [0.01], [none])
        assert found.float().equal(rounded(weight, 0.01).float())


def test_what_errors_carry_beyond_the_range_saturates() -> None:
    weight = torch.full((4, 96), 0.99 * e4m3.LARGEST)
    x = torch.randn(500, 1).expand(-1, 96) + 0.01 * torch.randn(500, 96)
    [found] = rounded_in_order([weight], [1.0], [covariance(x)])
    assert found.float().abs().max() <= e4m3.LARGEST
    assert not found.float().isnan().any()
