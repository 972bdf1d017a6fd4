"""Values as e4m3, FP8 with three bits of mantissa, from the kernels that write them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor


@dataclass(frozen=True)
class Cast:
    """How values become e4m3.

    Attributes:
        inverse: What they are multiplied by, float32 [1] on the device.
        saturated: Counts the values beyond the type's range, which become its end; int32 [1].
    """

    inverse: Tensor
    saturated: Tensor


@triton.jit
def to_e4m3(value, inverse, saturated, inside):
    """A tile as e4m3: times what ``inverse`` points to, saturated and counted; NaN stays."""
    return scaled_to_e4m3(value * tl.load(inverse), saturated, inside)


@triton.jit
def scaled_to_e4m3(scaled, saturated, inside):
    """A tile as e4m3, saturated and counted; NaN stays.

    Values are counted only in a tile that has one beyond the range: to know that takes one
    instruction a value, to count them three.
    """
    if tl.max(tl.abs(scaled)) > 448:
        beyond = tl.sum(((tl.abs(scaled) > 448) & inside).to(tl.int32))
        tl.atomic_add(saturated, beyond, sem="relaxed")
    scaled = tl.clamp(scaled, -448.0, 448.0, propagate_nan=tl.PropagateNan.ALL)
    return scaled.to(tl.float8e4nv)


@triton.jit
def _cast(x, out, inverse, saturated, count, VALUES: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * VALUES + tl.arange(0, VALUES)
    inside = place < count
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + place, to_e4m3(value, inverse, saturated, inside), mask=inside)


# Values of a program.
VALUES = 4096


def cast(x: Tensor, how: Cast) -> Tensor:
    """Contiguous ``x`` as e4m3, in a pass of its own."""
    out = torch.empty_like(x, dtype=torch.float8_e4m3fn)
    grid = (triton.cdiv(x.numel(), VALUES),)
    _cast[grid](x, out, how.inverse, how.saturated, x.numel(), VALUES=VALUES, num_warps=8)
    return out
