"""How fast the error falls with the bits."""

from typing import Any

import pytest
import torch

from flowquant.config.method import MethodConfig
from flowquant.quantization.apply import quantize_tensor
from flowquant.report.theory import decay


def test_decay_is_the_slope_in_bits() -> None:
    assert decay({bits: 4.0**-bits for bits in (2, 3, 4, 8)}) == pytest.approx(2)
    assert decay({2: 0.1}) is None


def test_equal_mass_decays_slower_than_optimal_levels_on_gaussian_tails() -> None:
    values = torch.randn(1, 100_000, generator=torch.Generator().manual_seed(0))
    slopes: dict[str, Any] = {}
    for levels in ("equal_mass", "lloyd"):
        method = MethodConfig(
            levels=levels, granularity="tensor", scope="all", keep=(), least_values=5
        )
        slopes[levels] = decay(
            {
                bits: (quantize_tensor(values, method, bits).expand() - values)
                .square()
                .mean()
                .item()
                for bits in range(2, 7)
            }
        )
    assert slopes["lloyd"] == pytest.approx(1.9, abs=0.12)
    assert slopes["equal_mass"] < slopes["lloyd"] - 0.3
