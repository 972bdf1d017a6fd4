"""FP8 linear with ReLU by tensor descriptors: candidates."""
import torch, triton, triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

@triton.jit
def to8(value, inverse, saturated):
    scaled = value * inverse
    if tl.max(tl.abs(scaled)) > 448:
        tl.atomic_add(saturated, tl.sum((tl.abs(scaled) > 448).to(tl.int32)), sem="relaxed")
    return tl.clamp(scaled, -448.0, 448.0, propagate_nan=tl.PropagateNan.ALL).to(tl.float8e4nv)

@triton.jit
def linear(x, weight, bias, scale, out, inverse, saturated, rows, columns, inner,
           GELU: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, PARTS: tl.constexpr, FLAT: tl.constexpr, WS: tl.constexpr, STAGES: tl.constexpr, COLS_FIRST: tl.constexpr):
    across = tl.cdiv(columns, COLUMNS)
    tiles = tl.cdiv(rows, ROWS) * across
    by, to = tl.load(scale), tl.load(inverse)
    for tile in tl.range(tl.program_id(0), tiles, tl.num_programs(0), flatten=FLAT, warp_specialize=WS):
        row = tile // across * ROWS
        column = tile % across * COLUMNS
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for k in range(0, inner, INNER):
            a = x.load([row, k])
            b = weight.load([column, k])
            total = tl.dot(a, b.T, total)
        if PARTS == 1:
            at = column + tl.arange(0, COLUMNS)
            value = total * by + tl.load(bias + at, mask=at < columns, other=0.0).to(tl.float32)[None, :]
            value = tl.maximum(value, 0.0)
            out.store([row, column], to8(value, to, saturated))
        else:
            halves = tl.permute(tl.reshape(total, (ROWS, 2, COLUMNS // 2)), (0, 2, 1))
            first, second = tl.split(halves)
            at = column + tl.arange(0, COLUMNS // 2)
            value = first * by + tl.load(bias + at, mask=at < columns, other=0.0).to(tl.float32)[None, :]
            out.store([row, column], to8(tl.maximum(value, 0.0), to, saturated))
            at += COLUMNS // 2
            value = second * by + tl.load(bias + at, mask=at < columns, other=0.0).to(tl.float32)[None, :]
            out.store([row, column + COLUMNS // 2], to8(tl.maximum(value, 0.0), to, saturated))

def call(x, w, bias, scale, inverse, saturated, out, ROWS=128, COLUMNS=256, INNER=128, PARTS=2, FLAT=True, WS=False, STAGES=3, warps=8, per=1, COLS_FIRST=False):
    M, K = x.shape; N = w.shape[0]
    xd = TensorDescriptor(x, [M, K], [K, 1], [ROWS, INNER]); wd = TensorDescriptor(w, [N, K], [K, 1], [COLUMNS, INNER]); od = TensorDescriptor(out, [M, N], [N, 1], [ROWS, COLUMNS // PARTS])
    tiles = triton.cdiv(M, ROWS) * triton.cdiv(N, COLUMNS)
    grid = (min(tiles, 132 * per) if per else tiles,)
    return linear[grid](xd, wd, bias, scale, od, inverse, saturated, M, N, K, GELU=False, ROWS=ROWS, COLUMNS=COLUMNS, INNER=INNER, PARTS=PARTS, FLAT=FLAT, WS=WS, STAGES=STAGES, COLS_FIRST=COLS_FIRST, num_warps=warps, num_stages=STAGES)
