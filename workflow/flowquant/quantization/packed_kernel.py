"""A GPU kernel that multiplies by a packed matrix through its codebook (imported lazily)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _multiply(
    x_ptr,
    packed_ptr,
    levels_ptr,
    bias_ptr,
    out_ptr,
    tokens,
    outputs,
    inputs,
    levels,
    BITS: tl.constexpr,  # noqa: N803
    BY_ROW: tl.constexpr,  # noqa: N803
    BIASED: tl.constexpr,  # noqa: N803
    BLOCK_M: tl.constexpr,  # noqa: N803
    BLOCK_N: tl.constexpr,  # noqa: N803
    BLOCK_K: tl.constexpr,  # noqa: N803
):
    """A tile [BLOCK_M, BLOCK_N] of x·Wᵀ + b; arguments as `packed_linear` passes them."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    first_level = n[None, :] * levels if BY_ROW else n[None, :] * 0
    for start in range(0, inputs, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        x = tl.load(
            x_ptr + m[:, None].to(tl.int64) * inputs + k[None, :],
            mask=(m[:, None] < tokens) & (k[None, :] < inputs),
            other=0.0,
        )
        inside = (k[:, None] < inputs) & (n[None, :] < outputs)
        bit = (n[None, :] * inputs + k[:, None]) * BITS
        byte = tl.load(packed_ptr + bit // 8, mask=inside, other=0).to(tl.int32)
        index = (byte >> (bit % 8)) & ((1 << BITS) - 1)
        weight = tl.load(levels_ptr + first_level + index, mask=inside, other=0.0)
        total += tl.dot(x, weight.to(x.dtype), input_precision="ieee")
    if BIASED:
        total += tl.load(bias_ptr + n, mask=n < outputs, other=0.0).to(tl.float32)[None, :]
    tl.store(
        out_ptr + m[:, None].to(tl.int64) * outputs + n[None, :],
        total.to(out_ptr.dtype.element_ty),
        mask=(m[:, None] < tokens) & (n[None, :] < outputs),
    )


def packed_linear(
    x: Tensor, packed: Tensor, levels: Tensor, bits: int, outputs: int, bias: Tensor | None
) -> Tensor:
    """x·Wᵀ + b with W [outputs, inputs] packed; sums in float32.

    Args:
        x: [..., inputs], float32, bfloat16 or float16.
        packed: uint8, indices of 1, 2, 4 or 8 bits side by side.
        levels: [outputs, L] (of each row) or [1, L]; used in the type of ``x``.
        bits: Width of an index.
        outputs: Rows of W.
        bias: [outputs] or nothing.

    Returns:
        [..., outputs] in the type of ``x``.
    """
    rows = x.reshape(-1, x.shape[-1]).contiguous()
    out = torch.empty(len(rows), outputs, dtype=x.dtype, device=x.device)
    block_m, block_n, block_k = (128 if len(rows) > 64 else 32), 64, 64
    grid = (triton.cdiv(len(rows), block_m), triton.cdiv(outputs, block_n))
    _multiply[grid](
        rows,
        packed,
        levels,
        levels if bias is None else bias,
        out,
        len(rows),
        outputs,
        rows.shape[1],
        levels.shape[1],
        BITS=bits,
        BY_ROW=len(levels) > 1,
        BIASED=bias is not None,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=block_k,
    )
    return out.view(*x.shape[:-1], outputs)
