"""How far quantized values are from the original ones."""

import torch
from torch import Tensor

from flowquant.quantization.search import sort_groups


def mean_squared_error(values: Tensor, quantized: Tensor) -> float:
    """Mean of (q − w)², in float64."""
    return (quantized.double() - values.double()).square().mean().item()


def wasserstein2(values: Tensor, quantized: Tensor) -> float:
    """W₂ between two sets of n equally weighted values: sorted ones are matched in order.

    It equals the root mean squared error where larger values got no smaller levels.
    """
    ordered = (sort_groups(part.detach().float().reshape(1, -1)) for part in (values, quantized))
    first, second = (part.double() for part in ordered)
    return (first - second).square().mean().sqrt().item()


def wasserstein2_pot(values: Tensor, quantized: Tensor) -> float:
    """`wasserstein2` by POT (``ot.wasserstein_1d``, p = 2), the reference implementation."""
    from flowquant.runtime.pot import ot

    first, second = (
        torch.sort(part.detach().double().flatten().cpu()).values.numpy()
        for part in (values, quantized)
    )
    # POT returns W₂²; the values are sorted already.
    return float(max(0.0, ot.wasserstein_1d(first, second, p=2, require_sort=False))) ** 0.5
