"""Scales that turn with time, through Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from flowquant.models.fp8 import Product, _turning
from flowquant.models.kernels.cast import cast
from near import distance

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for CPUs"),
    pytest.mark.usefixtures("e4m3"),
]
RATE = 10 * (5**0.5 - 1) / 2


def product() -> tuple[Product, torch.Tensor, torch.Tensor]:
    """One of a weight that e4m3 has exactly, inputs, and what is wanted of them."""
    torch.manual_seed(0)
    weight, bias = torch.randn(64, 48).to(torch.float8_e4m3fn).float(), torch.randn(64)
    x = torch.randn(20, 48)
    count = torch.zeros(1, dtype=torch.int32)
    return Product(weight, bias, x.abs().max().item(), count), x, F.linear(x, weight, bias)


def test_inputs_shrink_by_less_than_half_and_scales_undo_it() -> None:
    one, x, wanted = product()
    inverse, scales, scale = one.cast.inverse.clone(), one.scales[0].clone(), one.scale.clone()
    turning = _turning([one], RATE)
    assert {value.data_ptr() % 16 for value in turning.now[0]} == {0}
    factors = []
    for step in range(10):
        turning.turn(torch.tensor([step / 10]))
        factors.append((one.cast.inverse / inverse).item())
        torch.testing.assert_close(one.scales[0] * factors[-1], scales)
        torch.testing.assert_close(one.scale * factors[-1], scale)
        assert distance(one(cast(x, one.cast)), wanted) < 0.05
    assert factors[0] == 1
    assert 0.5 < min(factors) < 0.6
    assert 0.9 < sorted(factors)[-2] <= 1
    assert one.cast.saturated.item() == 0


def test_roundings_of_many_times_make_up_for_one_another() -> None:
    one, x, wanted = product()
    alone = distance(one(cast(x, one.cast)), wanted)
    turning, found = _turning([one], RATE), []
    for step in range(10):
        turning.turn(torch.tensor([step / 10]))
        found.append(one(cast(x, one.cast)))
    assert distance(torch.stack(found).mean(0), wanted) < alone / 2


def test_each_product_has_a_grid_of_its_own() -> None:
    ones = [product()[0] for _ in range(5)]
    turning = _turning(ones, RATE)
    for t in (0.0, 0.3):
        turning.turn(torch.tensor([t]))
        inverses = {round(one.cast.inverse.item(), 3) for one in ones}
        assert len(inverses) == len(ones)
        products = {round((one.cast.inverse * one.scales[0]).item(), 5) for one in ones}
        assert len(products) == 1
