"""Self-attention over few tokens, all heads of an image side by side, and its gradient."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from flowquant.models.kernels.cast import Cast, to_e4m3
from flowquant.models.kernels.dropout import kept_tile

# The attention kernels hold all tokens of an image at once.
MOST_TOKENS = 128
# Forward and backward.
ATTENTION_WARPS = 4, 4
# Backward, of at most 64 tokens and heads of 32: one register less than the compiler takes, and
# four programs share a multiprocessor in place of three.
FEW_REGISTERS: int | None = 128


@triton.jit
def _weights(query, key, row, tokens, scale):
    """softmax(Q·Kᵀ·scale) over the tokens there are, float32 [T, T]."""
    scores = tl.dot(query, tl.trans(key)) * scale
    scores = tl.where(row[None, :] < tokens, scores, float("-inf"))
    scores = tl.exp(scores - tl.max(scores, 1)[:, None])
    return scores / tl.sum(scores, 1)[:, None]


@triton.jit
def _attention(
    qkv,
    out,
    seeds,
    inverse,
    saturated,
    tokens,
    scale,
    dropout,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    PADDED: tl.constexpr,
    DROP: tl.constexpr,
    CAST: tl.constexpr,
):
    """One program: one head of one image. qkv [B, N, 3, H, d] → out [B, N, H, d]."""
    # What was written last is still in the cache, and what is read next comes first.
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    batch, head = (program // HEADS).to(tl.int64), program % HEADS
    width = HEADS * SIZE
    row, column = tl.arange(0, TOKENS), tl.arange(0, PADDED)
    inside = (row[:, None] < tokens) & (column[None, :] < SIZE)
    qkv += batch * tokens * 3 * width + head * SIZE
    place = row[:, None] * 3 * width + column[None, :]
    query = tl.load(qkv + place, mask=inside, other=0.0)
    key = tl.load(qkv + place + width, mask=inside, other=0.0)
    value = tl.load(qkv + place + 2 * width, mask=inside, other=0.0)
    # Powers of 2, and divided only once mixed: what is done to scores is done most often.
    scores = tl.where(row[None, :] < tokens, tl.dot(query, tl.trans(key)), float("-inf"))
    scale *= 1.4426950408889634
    weights = tl.exp2(scores * scale - (tl.max(scores, 1) * scale)[:, None])
    total = tl.sum(weights, 1)
    if DROP:
        counter = (program * TOKENS + row[:, None]) * (TOKENS // 8)
        counter += tl.arange(0, TOKENS // 8)[None, :]
        weights = weights * kept_tile(tl.load(seeds), counter, dropout) / (1 - dropout)
    mixed = tl.dot(weights.to(value.dtype), value) * (1 / total)[:, None]
    out += batch * tokens * width + head * SIZE
    place = row[:, None] * width + column[None, :]
    if CAST:
        tl.store(out + place, to_e4m3(mixed, inverse, saturated, inside), mask=inside)
    else:
        tl.store(out + place, mixed.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _attention_backward(
    qkv,
    grad,
    out,
    sums,
    seeds,
    tokens,
    scale,
    dropout,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    PADDED: tl.constexpr,
    DROP: tl.constexpr,
):
    """Gradient of `_attention`: grad [B, N, H, d] → out [B, N, 3, H, d], and its sums over N."""
    program = tl.program_id(0)
    batch, head = (program // HEADS).to(tl.int64), program % HEADS
    width = HEADS * SIZE
    row, column = tl.arange(0, TOKENS), tl.arange(0, PADDED)
    inside = (row[:, None] < tokens) & (column[None, :] < SIZE)
    place = batch * tokens * 3 * width + head * SIZE + row[:, None] * 3 * width + column[None, :]
    query = tl.load(qkv + place, mask=inside, other=0.0)
    key = tl.load(qkv + place + width, mask=inside, other=0.0)
    value = tl.load(qkv + place + 2 * width, mask=inside, other=0.0)
    there = batch * tokens * width + head * SIZE + row[:, None] * width + column[None, :]
    mixed = tl.load(grad + there, mask=inside, other=0.0)
    weights = _weights(query, key, row, tokens, scale)
    through = tl.dot(mixed, tl.trans(value))
    dropped = weights
    if DROP:
        counter = (program * TOKENS + row[:, None]) * (TOKENS // 8)
        counter += tl.arange(0, TOKENS // 8)[None, :]
        kept = kept_tile(tl.load(seeds), counter, dropout) / (1 - dropout)
        dropped = weights * kept
        through = through * kept
    scores = weights * (through - tl.sum(through * weights, 1)[:, None]) * scale
    scores = scores.to(query.dtype)
    of_query = tl.dot(scores, key)
    of_key = tl.dot(tl.trans(scores), query)
    of_value = tl.dot(tl.trans(dropped.to(mixed.dtype)), mixed)
    kind = out.dtype.element_ty
    tl.store(out + place, of_query.to(kind), mask=inside)
    tl.store(out + place + width, of_key.to(kind), mask=inside)
    tl.store(out + place + 2 * width, of_value.to(kind), mask=inside)
    there = batch * 3 * width + head * SIZE + column
    valid = row[:, None] < tokens
    inside = column < SIZE
    tl.store(sums + there, tl.sum(tl.where(valid, of_query, 0.0), 0), mask=inside)
    tl.store(sums + there + width, tl.sum(tl.where(valid, of_key, 0.0), 0), mask=inside)
    tl.store(sums + there + 2 * width, tl.sum(tl.where(valid, of_value, 0.0), 0), mask=inside)


def _attention_sizes(qkv: Tensor, heads: int) -> tuple[int, float, dict[str, int]]:
    tokens, size = qkv.shape[1], qkv.shape[2] // 3 // heads
    constants = {
        "HEADS": heads,
        "SIZE": size,
        "TOKENS": max(16, triton.next_power_of_2(tokens)),
        "PADDED": max(16, triton.next_power_of_2(size)),
    }
    return tokens, size**-0.5, constants


def attention(
    qkv: Tensor,
    heads: int,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    how: Cast | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """dropout(softmax(Q·Kᵀ/√d))·V for each head.

    Args:
        qkv: Queries, keys and values side by side, contiguous [B, N, 3·D], N ≤ 128.
        heads: H, a divisor of D.
        dropout: Of attention weights.
        seed: Of the dropout, int64 [1] on the device.
        how: The result is cast to e4m3, if it is.
        out: Where to write the result, contiguous; a new tensor, if omitted.

    Returns:
        [B, N, D] of the same type, or e4m3.
    """
    tokens, scale, constants = _attention_sizes(qkv, heads)
    dtype = qkv.dtype if how is None else torch.float8_e4m3fn
    if out is None:
        out = qkv.new_empty(len(qkv), tokens, qkv.shape[2] // 3, dtype=dtype)
    _attention[(len(qkv) * heads,)](
        *(qkv, out, seed),
        *(None if how is None else how.inverse, None if how is None else how.saturated),
        *(tokens, scale, dropout),
        **constants,
        DROP=dropout > 0,
        CAST=how is not None,
        num_warps=ATTENTION_WARPS[0],
    )
    return out


def attention_backward(
    qkv: Tensor,
    grad: Tensor,
    heads: int,
    dropout: float = 0.0,
    seed: Tensor | None = None,
    out: Tensor | None = None,
    sums: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The gradient of `attention`: of its output → of qkv, [B, N, 3·D], and its sums over N.

    Those are float32 [B, 3·D]. Both are written to ``out`` and ``sums``, if given.
    """
    tokens, scale, constants = _attention_sizes(qkv, heads)
    out = torch.empty_like(qkv) if out is None else out
    if sums is None:
        sums = qkv.new_empty(len(qkv), qkv.shape[2], dtype=torch.float32)
    few = constants["TOKENS"] <= 64 and constants["PADDED"] <= 32
    _attention_backward[(len(qkv) * heads,)](
        *(qkv, grad, out, sums, seed, tokens, scale, dropout),
        **constants,
        DROP=dropout > 0,
        num_warps=ATTENTION_WARPS[1],
        maxnreg=FEW_REGISTERS if few else None,
    )
    return out, sums
