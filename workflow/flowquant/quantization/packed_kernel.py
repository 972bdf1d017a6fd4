"""A GPU kernel that expands a packed weight (imported lazily).

It reads indices of 1 to 16 bits as they are packed, whichever levels belong to them: of the whole
weight, a row or a group, single values or vectors, with scales or without.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

# Values of a program, and its warps.
VALUES, WARPS = 4096, 8


@triton.jit
def _index(packed, which, inside, BITS: tl.constexpr):
    """Packed indices number ``which``, int32; least significant bit first, across bytes."""
    # Eight indices fill BITS bytes: no product leaves 32 bits.
    bit = (which % 8) * BITS
    byte = which // 8 * BITS + bit // 8
    word = tl.load(packed + byte, mask=inside, other=0).to(tl.int32)
    if 8 % BITS != 0:
        crossing = inside & (bit % 8 + BITS > 8)
        word |= tl.load(packed + byte + 1, mask=crossing, other=0).to(tl.int32) << 8
    if BITS > 8:
        crossing = inside & (bit % 8 + BITS > 16)
        word |= tl.load(packed + byte + 2, mask=crossing, other=0).to(tl.int32) << 16
    return (word >> (bit % 8)) & ((1 << BITS) - 1)


@triton.jit
def _expand(
    packed,
    levels,
    scales,
    factor,
    out,
    count,
    group,
    part,
    LEVELS: tl.constexpr,
    BITS: tl.constexpr,
    VECTOR: tl.constexpr,
    SCALED: tl.constexpr,
    GROUPED: tl.constexpr,
    FACTOR: tl.constexpr,
    VALUES: tl.constexpr,
):
    value = tl.program_id(0) * VALUES + tl.arange(0, VALUES)
    inside = value < count
    level = _index(packed, value // VECTOR, inside, BITS)
    if GROUPED:
        level += value // group * LEVELS
    chosen = tl.load(levels + level * VECTOR + value % VECTOR, mask=inside, other=0.0)
    chosen = chosen.to(tl.float32)
    if SCALED:
        chosen *= tl.load(scales + value // part, mask=inside, other=0.0).to(tl.float32)
    if FACTOR:
        chosen *= tl.load(factor)
    tl.store(out + value, chosen.to(out.dtype.element_ty), mask=inside)


def expand_into(
    out: Tensor,
    packed: Tensor,
    levels: Tensor,
    scales: Tensor | None,
    bits: int,
    factor: Tensor | None = None,
) -> None:
    """Write levels, times their scales, where they belong; rounded once, to the type of ``out``.

    Args:
        out: Any shape, contiguous, fewer than 2³¹ values.
        packed: uint8, an index for each value or vector, side by side.
        levels: Of equal consecutive groups of ``out``, [G, L] or, of vectors, [G, L, d].
        scales: Of equal consecutive parts of ``out``, [S].
        bits: Width of an index.
        factor: Of all values, float32 [1].
    """
    count, groups = out.numel(), len(levels)
    parts = 1 if scales is None else len(scales)
    _expand[(triton.cdiv(count, VALUES),)](
        *(packed, levels, scales, factor, out, count, count // groups, count // parts),
        LEVELS=levels.shape[1],
        BITS=bits,
        VECTOR=levels.shape[2] if levels.dim() == 3 else 1,
        SCALED=scales is not None,
        GROUPED=groups > 1,
        FACTOR=factor is not None,
        VALUES=VALUES,
        num_warps=WARPS,
    )
