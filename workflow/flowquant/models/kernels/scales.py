"""Scales by which inputs are rounded, of another grid at each time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

# PyTorch's products take scales that lie at multiples of 16 bytes.
APART = 4
# Turns from a product to the next: neighbours lie far apart, and all evenly.
BETWEEN = (3 - 5**0.5) / 2


@triton.jit
def _turn(
    t, rate, between, fixed, now, count, EACH: tl.constexpr, MOST: tl.constexpr, APART: tl.constexpr
):
    place = tl.arange(0, MOST)
    inside = place < count
    turned = tl.load(t) * rate + (place // EACH) * between
    factor = tl.exp2(tl.floor(turned) - turned)
    value = tl.load(fixed + place, mask=inside, other=0.0)
    value = tl.where(place % EACH == 0, value * factor, value / factor)
    tl.store(now + place * APART, value, mask=inside)


class TurningScales:
    """What products' inputs are multiplied by before they are rounded, and scales that undo it.

    At time t the inputs of product p are rounded as if they were multiplied by
    2^−frac(rate·t + p·`BETWEEN`), on grids that differ from time to time and from product to
    product, so that roundings make up for one another. Nothing saturates that fits without.
    ``now`` has each product's, float32 [1]: the factor, then the scales.
    """

    def __init__(self, rate: float, given: Sequence[Sequence[Tensor]]) -> None:
        """Of each product's factor and scales, float32 [1] on one device; as many of each."""
        self._rate, self._each = rate, len(given[0])
        self._fixed = torch.cat([value for of_product in given for value in of_product])
        self._now = self._fixed.repeat_interleave(APART)
        values = self._now[::APART].split(1)
        self.now = [values[i : i + self._each] for i in range(0, len(values), self._each)]

    def turn(self, t: Tensor) -> None:
        """To the time t, float32 [1] on the scales' device."""
        count = len(self._fixed)
        most = triton.next_power_of_2(count)
        given = t, self._rate, BETWEEN, self._fixed, self._now, count
        _turn[(1,)](*given, EACH=self._each, MOST=most, APART=APART)
