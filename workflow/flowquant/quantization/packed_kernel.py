"""GPU kernels that read a packed weight (imported lazily): one expands it, one multiplies by it.

Both read indices of 1 to 16 bits as they are packed, whichever levels belong to them: of the whole
weight, a row or a group, single values or vectors, with scales or without.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Levels that are chosen from registers; more are looked up in memory.
MOST_CHOSEN = 16
# Values of a program that expands, and its warps.
EXPANDED, EXPANDING_WARPS = 1024, 4
# Of a program that multiplies, by up to 1,024 inputs and by more: outputs, inputs at a time, warps,
# and tiles under way. Steps over inputs wait for one another: of many inputs, a step takes more.
TILES = (16, 128, 4, 3), (16, 512, 8, 2)


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
    _expand[(triton.cdiv(count, EXPANDED),)](
        *(packed, levels, scales, factor, out, count, count // groups, count // parts),
        LEVELS=levels.shape[1],
        BITS=bits,
        VECTOR=levels.shape[2] if levels.dim() == 3 else 1,
        SCALED=scales is not None,
        GROUPED=groups > 1,
        FACTOR=factor is not None,
        VALUES=EXPANDED,
        num_warps=EXPANDING_WARPS,
    )


@triton.jit
def _multiply(
    x,
    packed,
    levels,
    scales,
    bias,
    out,
    tokens,
    outputs,
    inputs,
    group,
    part,
    LEVELS: tl.constexpr,
    BITS: tl.constexpr,
    VECTOR: tl.constexpr,
    SCALED: tl.constexpr,
    GROUPED: tl.constexpr,
    CHOSEN: tl.constexpr,
    BIASED: tl.constexpr,
    RELU: tl.constexpr,
    TOKENS: tl.constexpr,
    OUTPUTS: tl.constexpr,
    INPUTS: tl.constexpr,
):
    """A tile [TOKENS, OUTPUTS] of x·Wᵀ + b."""
    m = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS)
    n = tl.program_id(1) * OUTPUTS + tl.arange(0, OUTPUTS)
    total = tl.zeros((TOKENS, OUTPUTS), dtype=tl.float32)
    for start in range(0, inputs, INPUTS):
        k = start + tl.arange(0, INPUTS)
        given = tl.load(
            x + m[:, None].to(tl.int64) * inputs + k[None, :],
            mask=(m[:, None] < tokens) & (k[None, :] < inputs),
            other=0.0,
        )
        inside = (k[:, None] < inputs) & (n[None, :] < outputs)
        value = n[None, :] * inputs + k[:, None]
        index = _index(packed, value // VECTOR, inside, BITS)
        first = n[None, :] * inputs // group * LEVELS if GROUPED else n[None, :] * 0
        if CHOSEN:
            # A row's few levels: loaded once for all its inputs, not once for each.
            weight = tl.zeros((INPUTS, OUTPUTS), tl.float32)
            for level in tl.static_range(LEVELS):
                own = tl.load(levels + first + level, mask=n[None, :] < outputs, other=0.0)
                weight = tl.where(index == level, own.to(tl.float32), weight)
        else:
            if GROUPED:
                first = value // group * LEVELS
            place = (first + index) * VECTOR + value % VECTOR
            weight = tl.load(levels + place, mask=inside, other=0.0).to(tl.float32)
        if SCALED:
            weight *= tl.load(scales + value // part, mask=inside, other=0.0).to(tl.float32)
        total += tl.dot(given, weight.to(given.dtype), input_precision="ieee")
    if BIASED:
        total += tl.load(bias + n, mask=n < outputs, other=0.0).to(tl.float32)[None, :]
    if RELU:
        total = tl.where(total < 0, 0.0, total)
    tl.store(
        out + m[:, None].to(tl.int64) * outputs + n[None, :],
        total.to(out.dtype.element_ty),
        mask=(m[:, None] < tokens) & (n[None, :] < outputs),
    )


def packed_linear(
    x: Tensor,
    packed: Tensor,
    levels: Tensor,
    scales: Tensor | None,
    bits: int,
    outputs: int,
    bias: Tensor | None,
    relu: bool = False,
) -> Tensor:
    """x·Wᵀ + b with W [outputs, inputs] packed, perhaps ReLU of it; sums in float32.

    Args:
        x: [..., inputs], float32, bfloat16 or float16; few tokens.
        packed: As those of `expand_into`, and so the following two.
        levels: Used, times their scales, in the type of ``x``.
        scales: Factors of levels.
        bits: Width of an index.
        outputs: Rows of W.
        bias: [outputs] or nothing.
        relu: Whether values below 0 become 0.

    Returns:
        [..., outputs] in the type of ``x``.
    """
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    tokens, inputs = rows.shape
    out = torch.empty(tokens, outputs, dtype=x.dtype, device=x.device)
    count, groups = outputs * inputs, len(levels)
    parts = 1 if scales is None else len(scales)
    vector = levels.shape[2] if levels.dim() == 3 else 1
    high = min(64, max(16, triton.next_power_of_2(tokens)))
    wide, deep, warps, stages = TILES[inputs > 1024]
    grid = (triton.cdiv(tokens, high), triton.cdiv(outputs, wide))
    _multiply[grid](
        *(rows, packed, levels, scales, bias, out, tokens, outputs, inputs),
        *(count // groups, count // parts),
        LEVELS=levels.shape[1],
        BITS=bits,
        VECTOR=vector,
        SCALED=scales is not None,
        GROUPED=groups > 1,
        # One group a row at most, so that a row has the same levels throughout.
        CHOSEN=vector == 1 and levels.shape[1] <= MOST_CHOSEN and outputs % groups == 0,
        BIASED=bias is not None,
        RELU=relu,
        TOKENS=high,
        OUTPUTS=wide,
        INPUTS=deep,
        num_warps=warps,
        num_stages=stages,
    )
    return out.view(*x.shape[:-1], outputs)
