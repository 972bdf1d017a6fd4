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
def _words(packed, which, size, BITS: tl.constexpr, EACH: tl.constexpr):
    """Words number ``which``, of 4 or 8 packed indices each; least significant bit first."""
    # Eight indices fill BITS bytes: no product leaves 32 bits.
    parts: tl.constexpr = 8 // EACH
    bit = which % parts * (EACH * BITS)
    byte = which // parts * BITS + bit // 8
    # Where words begin inside a byte, they do so after 4 of its bits.
    many: tl.constexpr = (EACH * BITS + EACH * BITS % 8 + 7) // 8
    kind = tl.uint32 if many <= 4 else tl.uint64
    word = tl.zeros_like(which).to(kind)
    for step in tl.static_range(many):
        read = tl.load(packed + byte + step, mask=byte + step < size, other=0)
        word |= read.to(kind) << (8 * step)
    return word >> (bit % 8).to(kind)


@triton.jit
def _expand(
    packed,
    levels,
    scales,
    factor,
    out,
    size,
    count,
    group,
    part,
    LEVELS: tl.constexpr,
    BITS: tl.constexpr,
    EACH: tl.constexpr,
    VECTOR: tl.constexpr,
    PADDED: tl.constexpr,
    SCALED: tl.constexpr,
    GROUPED: tl.constexpr,
    FACTOR: tl.constexpr,
    ROWS: tl.constexpr,
):
    which = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    word = _words(packed, which, size, BITS, EACH)
    # Values of a word; of each, which index it belongs to.
    column = tl.arange(0, PADDED)
    value = which[:, None] * (EACH * VECTOR) + column[None, :]
    inside = (value < count) & (column < EACH * VECTOR)[None, :]
    shift = column // VECTOR * BITS
    level = (word[:, None] >> shift[None, :].to(word.dtype)) & ((1 << BITS) - 1)
    level = level.to(tl.int32)
    if GROUPED:
        level += value // group * LEVELS
    chosen = tl.load(levels + level * VECTOR + (column % VECTOR)[None, :], mask=inside, other=0.0)
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
    each, vector = 8 if bits <= 8 else 4, levels.shape[2] if levels.dim() == 3 else 1
    padded = triton.next_power_of_2(each * vector)
    rows = VALUES // padded
    _expand[(triton.cdiv(count, rows * each * vector),)](
        *(packed, levels, scales, factor, out),
        *(packed.numel(), count, count // groups, count // parts),
        LEVELS=levels.shape[1],
        BITS=bits,
        EACH=each,
        VECTOR=vector,
        PADDED=padded,
        SCALED=scales is not None,
        GROUPED=groups > 1,
        FACTOR=factor is not None,
        ROWS=rows,
        num_warps=WARPS,
    )
