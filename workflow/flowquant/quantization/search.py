"""Sorting groups of values and finding nearest levels, fast on a CPU and on a GPU."""

import numpy as np
import torch
from torch import Tensor


def nearest(values: Tensor, levels: Tensor) -> Tensor:
    """Index, int32 [G, n], of the level nearest to each value [G, n]; half-way, the lower one.

    ``levels`` [G, L] are sorted.
    """
    middles = ((levels[:, 1:].double() + levels[:, :-1].double()) / 2).to(values.dtype)
    if len(values) == 1:
        # One row of boundaries is searched faster than several.
        return torch.bucketize(values, middles[0], out_int32=True)
    return torch.searchsorted(middles.contiguous(), values.contiguous(), out_int32=True)


# Distances that `nearest_vectors` holds at a time.
MOST_DISTANCES = 1 << 24


def nearest_vectors(values: Tensor, vectors: Tensor) -> Tensor:
    """Index, int32 [G, m], of the vector [G, L, d] nearest to each of the values [G, m, d].

    |v − c|² = |v|² − 2(v·c − |c|² ÷ 2): the nearest is the greatest of one matrix product.
    """
    halves = vectors.square().sum(2) / 2
    at_once = max(1, MOST_DISTANCES // vectors.shape[1])
    groups = []
    for own, candidates, half in zip(values, vectors, halves, strict=True):
        parts = own.split(at_once)
        found = [torch.addmm(-half, part, candidates.T).argmax(1).int() for part in parts]
        groups.append(torch.cat(found))
    return torch.stack(groups)


# The sign bit of a float32.
_SIGN = np.uint32(0x80000000)


def sort_groups(values: Tensor) -> Tensor:
    """Each group in ascending order, [G, n]."""
    if values.device.type == "cpu" and values.dtype == torch.float32:
        # NumPy sorts float32 with vector instructions; torch does not.
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(dim=1).values


def stable_order(values: Tensor) -> Tensor:
    """Positions that sort each group, equal values in their order of appearance; int64 [G, n].

    On the CPU it is one sort of 64-bit integers, the value in the upper half and the position in
    the lower: many times faster than a stable argsort.
    """
    n = values.shape[1]
    if values.device.type != "cpu" or values.dtype != torch.float32 or n >= 1 << 32:
        return values.argsort(dim=1, stable=True)
    # −0 + 0 = +0: the two zeros are equal values. Then the bits are made to sort as the values do.
    raw = (values + 0.0).numpy().view(np.uint32)
    keys = np.where(raw & _SIGN, ~raw, raw | _SIGN).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(n, dtype=np.uint64)
    keys.sort(axis=1)
    keys &= np.uint64(0xFFFFFFFF)
    return torch.from_numpy(keys.view(np.int64))
