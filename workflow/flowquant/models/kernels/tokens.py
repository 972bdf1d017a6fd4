"""The tokens that a transformer begins with, in one pass that only writes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _tokens(
    patches,
    weight,
    bias,
    context,
    position,
    out,
    rows,
    tokens,
    WIDTH: tl.constexpr,
    VALUES: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    k = tl.arange(0, PADDED)
    here, there, exists = row < rows, column < WIDTH, k < VALUES
    place = row[:, None].to(tl.int64) * VALUES + k[None, :]
    given = tl.load(patches + place, mask=here[:, None] & exists[None, :], other=0.0)
    place = column[:, None] * VALUES + k[None, :]
    by = tl.load(weight + place, mask=there[:, None] & exists[None, :], other=0.0)
    total = tl.dot(given, tl.trans(by))
    total += tl.load(bias + column, mask=there, other=0.0).to(tl.float32)[None, :]
    inside = here[:, None] & there[None, :]
    place = (row // tokens)[:, None] * WIDTH + column[None, :]
    total += tl.load(context + place, mask=inside, other=0.0).to(tl.float32)
    place = (row % tokens)[:, None] * WIDTH + column[None, :]
    total += tl.load(position + place, mask=inside, other=0.0).to(tl.float32)
    place = row[:, None].to(tl.int64) * WIDTH + column[None, :]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=inside)


# Rows and columns of a tile, and warps.
TILE = 64, 128, 8


def begin(
    patches: Tensor, weight: Tensor, bias: Tensor, context: Tensor, position: Tensor
) -> Tensor:
    """patches·Wᵀ + b + context + position, rounded once; all contiguous.

    Args:
        patches: [B, N, P].
        weight: [D, P].
        bias: [D].
        context: Of each image, [B, D].
        position: Of each token, [1, N, D].

    Returns:
        [B, N, D] of the patches' type.
    """
    images, tokens, values = patches.shape
    width, rows = len(weight), images * tokens
    out = torch.empty(images, tokens, width, dtype=patches.dtype, device=patches.device)
    high, wide, warps = TILE
    _tokens[(triton.cdiv(rows, high), triton.cdiv(width, wide))](
        *(patches, weight, bias, context, position, out, rows, tokens),
        WIDTH=width,
        VALUES=values,
        PADDED=max(16, triton.next_power_of_2(values)),
        ROWS=high,
        COLUMNS=wide,
        num_warps=warps,
    )
    return out
