"""Kernels that the package has not: candidates, for trials.py alone."""
from __future__ import annotations

import torch
import triton
import triton.language as tl

try:
    from triton.tools.tensor_descriptor import TensorDescriptor
except Exception:  # Triton before 3.4
    TensorDescriptor = None


@triton.jit
def relu_forward(x, saturated, words, WORDS: tl.constexpr, COUNT: tl.constexpr):
    """The package's _relu from the beginning to the end, and without its count."""
    place = tl.program_id(0).to(tl.int64) * WORDS + tl.arange(0, WORDS)
    inside = place < words
    word = tl.load(x + place, mask=inside, other=0)
    negative = (word >> 7) & 0x01010101
    word = word & ~((negative << 8) - negative)
    tl.store(x + place, word, mask=inside)
    if COUNT:
        full = ((word + 0x02020202) >> 7) & 0x01010101
        if tl.max(full) > 0:
            tl.atomic_add(saturated, tl.sum((full * 0x01010101) >> 24), sem="relaxed")


@triton.jit
def ended(value, saturated, inside):
    """ReLU as e4m3, of values that are scaled already; what is beyond is counted."""
    if tl.max(value) > 448:
        tl.atomic_add(saturated, tl.sum(((value > 448) & inside).to(tl.int32)), sem="relaxed")
    return tl.clamp(value, 0.0, 448.0, propagate_nan=tl.PropagateNan.ALL).to(tl.float8e4nv)


@triton.jit
def positive(value):
    return tl.maximum(value, 0.0, propagate_nan=tl.PropagateNan.ALL).to(tl.bfloat16)


@triton.jit
def resident(x, weight, bias, scale, out, saturated, rows, columns,
             M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, E4: tl.constexpr, STAGES: tl.constexpr):
    """ReLU(scale·x·Wᵀ + b) for three blocks of K: each program keeps its part of W, and streams x."""
    across = columns // N
    column = tl.program_id(0) % across * N
    w0 = weight.load([column, 0])
    w1 = weight.load([column, K])
    w2 = weight.load([column, 2 * K])
    shift = tl.load(bias + column + tl.arange(0, N)).to(tl.float32)[None, :]
    by = tl.load(scale)
    for tile in tl.range(tl.program_id(0) // across, tl.cdiv(rows, M), tl.num_programs(0) // across, num_stages=STAGES):
        total = tl.dot(x.load([tile * M, 0]), tl.trans(w0))
        total = tl.dot(x.load([tile * M, K]), tl.trans(w1), total)
        total = tl.dot(x.load([tile * M, 2 * K]), tl.trans(w2), total)
        value = total * by + shift
        if E4:
            inside = (tile * M + tl.arange(0, M) < rows)[:, None]
            out.store([tile * M, column], ended(value, saturated, inside))
        else:
            out.store([tile * M, column], positive(value))


@triton.jit
def tiles(x, weight, bias, scale, out, saturated, rows, columns, inner,
          M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, HALVES: tl.constexpr, E4: tl.constexpr):
    """The same by tiles of any K, persistent; stored by halves where HALVES."""
    across = tl.cdiv(columns, N)
    by = tl.load(scale)
    for tile in tl.range(tl.program_id(0), tl.cdiv(rows, M) * across, tl.num_programs(0)):
        row, column = tile // across * M, tile % across * N
        total = tl.zeros((M, N), tl.float32)
        for k in range(0, inner, K):
            total = tl.dot(x.load([row, k]), tl.trans(weight.load([column, k])), total)
        inside = (row + tl.arange(0, M) < rows)[:, None]
        if HALVES:
            halves = tl.permute(tl.reshape(total, (M, 2, N // 2)), (0, 2, 1))
            first, second = tl.split(halves)
            half = tl.arange(0, N // 2)
            first = first * by + tl.load(bias + column + half).to(tl.float32)[None, :]
            second = second * by + tl.load(bias + column + N // 2 + half).to(tl.float32)[None, :]
            if E4:
                out.store([row, column], ended(first, saturated, inside))
                out.store([row, column + N // 2], ended(second, saturated, inside))
            else:
                out.store([row, column], positive(first))
                out.store([row, column + N // 2], positive(second))
        else:
            value = total * by + tl.load(bias + column + tl.arange(0, N)).to(tl.float32)[None, :]
            if E4:
                out.store([row, column], ended(value, saturated, inside))
            else:
                out.store([row, column], positive(value))


@triton.jit
def half(value, inverse, saturated):
    scaled = value * inverse
    if tl.max(tl.abs(scaled)) > 448:
        tl.atomic_add(saturated, tl.sum((tl.abs(scaled) > 448).to(tl.int32)), sem="relaxed")
    return tl.clamp(scaled, -448.0, 448.0, propagate_nan=tl.PropagateNan.ALL).to(tl.float8e4nv)


@triton.jit
def norm_parts(x, y, weight, bias, out, cast_out, inverse, saturated, rows, eps,
               A: tl.constexpr, B: tl.constexpr, CAST: tl.constexpr, EACH: tl.constexpr):
    """add_norm of a width that is the sum of two powers of two: no lane idles. EACH rows one after another."""
    a, b = tl.arange(0, A), A + tl.arange(0, B)
    wa, wb = tl.load(weight + a).to(tl.float32), tl.load(weight + b).to(tl.float32)
    ba, bb = tl.load(bias + a).to(tl.float32), tl.load(bias + b).to(tl.float32)
    if CAST:
        by = tl.load(inverse)
    for step in range(EACH):
        at = tl.minimum(tl.program_id(0) * EACH + step, rows - 1).to(tl.int64) * (A + B)
        ta = tl.load(x + at + a).to(tl.float32) + tl.load(y + at + a).to(tl.float32)
        tb = tl.load(x + at + b).to(tl.float32) + tl.load(y + at + b).to(tl.float32)
        mean = (tl.sum(ta, 0) + tl.sum(tb, 0)) / (A + B)
        ta -= mean
        tb -= mean
        spread = tl.rsqrt((tl.sum(ta * ta, 0) + tl.sum(tb * tb, 0)) / (A + B) + eps)
        ta = ta * spread * wa + ba
        tb = tb * spread * wb + bb
        tl.store(out + at + a, ta.to(out.dtype.element_ty))
        tl.store(out + at + b, tb.to(out.dtype.element_ty))
        if CAST:
            tl.store(tl.multiple_of(cast_out + at + a, 8), half(ta, by, saturated))
            tl.store(tl.multiple_of(cast_out + at + b, 4), half(tb, by, saturated))


@triton.jit
def linear_norm(x, wa, wb, bias, scale, residual, gamma, beta, out, cast_out, inverse, saturated, rows, inner, eps,
                A: tl.constexpr, B: tl.constexpr, M: tl.constexpr, K: tl.constexpr, CAST: tl.constexpr):
    """LayerNorm(residual + scale·x·Wᵀ + b) of a width A + B, both powers of two."""
    first = tl.program_id(0) * M
    row, a, b = first + tl.arange(0, M), tl.arange(0, A), A + tl.arange(0, B)
    ta, tb = tl.zeros((M, A), tl.float32), tl.zeros((M, B), tl.float32)
    for k in range(0, inner, K):
        given = x.load([first, k])
        ta = tl.dot(given, tl.trans(wa.load([0, k])), ta)
        tb = tl.dot(given, tl.trans(wb.load([A, k])), tb)
    here = (row < rows)[:, None]
    by = tl.load(scale)
    at = residual + row[:, None].to(tl.int64) * (A + B)
    ta = ta * by + tl.load(bias + a).to(tl.float32)[None, :] + tl.load(at + a[None, :], mask=here, other=0.0).to(tl.float32)
    tb = tb * by + tl.load(bias + b).to(tl.float32)[None, :] + tl.load(at + b[None, :], mask=here, other=0.0).to(tl.float32)
    mean = ((tl.sum(ta, 1) + tl.sum(tb, 1)) / (A + B))[:, None]
    ta -= mean
    tb -= mean
    spread = tl.rsqrt((tl.sum(ta * ta, 1) + tl.sum(tb * tb, 1)) / (A + B) + eps)[:, None]
    ta = ta * spread * tl.load(gamma + a).to(tl.float32)[None, :] + tl.load(beta + a).to(tl.float32)[None, :]
    tb = tb * spread * tl.load(gamma + b).to(tl.float32)[None, :] + tl.load(beta + b).to(tl.float32)[None, :]
    at = row[:, None].to(tl.int64) * (A + B)
    tl.store(out + at + a[None, :], ta.to(tl.bfloat16), mask=here)
    tl.store(out + at + b[None, :], tb.to(tl.bfloat16), mask=here)
    if CAST:
        inv = tl.load(inverse)
        tl.store(cast_out + at + a[None, :], half(ta, inv, saturated), mask=here)
        tl.store(cast_out + at + b[None, :], half(tb, inv, saturated), mask=here)
