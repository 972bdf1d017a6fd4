"""Nearest levels."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest(values: Tensor, levels: Tensor) -> Tensor:
    """Index of the nearest of each group's sorted levels; half-way, the lower one.

    Args:
        values: [G, n].
        levels: [G, L], sorted.

    Returns:
        int32 [G, n].
    """
    middles = ((levels[:, 1:].double() + levels[:, :-1].double()) / 2).to(values.dtype)
    if len(values) == 1:
        # One row of boundaries for all is faster searched than rows of them.
        return torch.bucketize(values, middles[0], out_int32=True)
    return torch.searchsorted(middles.contiguous(), values.contiguous(), out_int32=True)
