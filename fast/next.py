"""FP8's first product of a feed-forward layer, and the sum that begins an evaluation: other ways, in µs, and whether they agree."""
import json, sys
import torch, torch.nn.functional as F
import triton, triton.language as tl
from common import graph_us
from flowquant.models.kernels import linear as lin
from flowquant.models.kernels.activation import activate
from flowquant.models.kernels.cast import Cast
E4, dev, out = torch.float8_e4m3fn, torch.device("cuda"), {}

@triton.jit
def _clamp(x, count, n, WORDS: tl.constexpr):
    """Four e4m3 values a word: negative ones to 0, and how many are the largest there is."""
    at = tl.program_id(0) * WORDS + tl.arange(0, WORDS)
    word = tl.load(x + at, mask=at < n, other=0)
    sign = word & -2139062144  # 0x80808080
    word = word & ~((sign >> 7 & 0x01010101) * 255)
    tl.store(x + at, word, mask=at < n)
    full = word ^ 0x7E7E7E7E
    # a byte of 0 among four: the classic test
    zero = (full - 0x01010101) & ~full & -2139062144
    if tl.max((zero != 0).to(tl.int32)) != 0:
        tl.atomic_add(count, tl.sum((zero != 0).to(tl.int32)))

def clamp(x, count, words=4096, warps=8):
    n = x.numel() // 4
    _clamp[(triton.cdiv(n, words),)](x.view(torch.int32), count, n, WORDS=words, num_warps=warps)

def tell(key, work, **kw):
    try: out[key] = [round(v, 2) for v in graph_us(work, **kw)]
    except Exception as e: out[key] = repr(e)[:200]
    print(key, out[key], flush=True)

one, count = torch.ones(1, device=dev), torch.zeros(1, dtype=torch.int32, device=dev)
for rows, n, k in ((49000, 2048, 384), (12544, 2048, 384), (49, 2048, 384)):
    x8, w8 = torch.randn(rows, k, device=dev).to(E4), (torch.randn(n, k, device=dev) * .05).to(E4)
    b = torch.randn(n, device=dev).bfloat16()
    how = Cast(one, torch.zeros(1, dtype=torch.int32, device=dev))
    tell(f"{rows}: ours", lambda: lin.linear_activate(x8, w8, b, one, False, how))
    for bias in (b, None):
        for result in (one, None):
            word = f"{rows}: scaled_mm to e4m3, bias {bias is not None}, scale_result {result is not None}"
            tell(word, lambda: torch._scaled_mm(x8, w8.t(), one, one, bias=bias, scale_result=result, out_dtype=E4, use_fast_accum=True))
    try:
        y = torch._scaled_mm(x8, w8.t(), one, one, bias=b, scale_result=one, out_dtype=E4, use_fast_accum=True)
        wanted = F.relu(x8.float() @ w8.float().t() + b.float()).clamp(max=448).to(E4).float()
        clamp(y, count)
        out[f"{rows}: differs from float32's rounding by"] = float((y.float() - wanted).norm() / wanted.norm()); print(out[f"{rows}: differs from float32's rounding by"], int(count))
        for words in (1024, 4096, 16384):
            for warps in (4, 8):
                tell(f"{rows}: clamp {words} {warps}", lambda: clamp(y, count, words, warps))
        tell(f"{rows}: int8 clamp_ of PyTorch", lambda: y.view(torch.int8).clamp_(min=0))
        tell(f"{rows}: both", lambda: clamp(torch._scaled_mm(x8, w8.t(), one, one, bias=b, scale_result=one, out_dtype=E4, use_fast_accum=True), count))
    except Exception as e:
        print(rows, repr(e)[:300])
    xb, wb = x8.bfloat16(), w8.bfloat16()
    tell(f"{rows}: bf16 linear", lambda: F.linear(xb, wb, b))
    tell(f"{rows}: bf16 linear with ReLU", lambda: torch._addmm_activation(b, xb, wb.t()))
tokens, context, pos = torch.randn(1000, 49, 384, device=dev).bfloat16(), torch.randn(1000, 384, device=dev).bfloat16(), torch.randn(1, 49, 384, device=dev).bfloat16()
patches, w, b = torch.randn(1000, 49, 16, device=dev).bfloat16(), torch.randn(384, 16, device=dev).bfloat16(), torch.randn(384, device=dev).bfloat16()
tell("begin: as it is", lambda: F.linear(patches, w, b) + context[:, None] + pos)
tell("begin: sum, then addmm_", lambda: ((context + b)[:, None] + pos).view(-1, 384).addmm_(patches.view(-1, 16), w.t()))
@triton.jit
def _begin(x, context, pos, T, D: tl.constexpr, P: tl.constexpr):
    row, d = tl.program_id(0), tl.arange(0, P)
    m = d < D
    total = tl.load(x + row.to(tl.int64) * D + d, mask=m).to(tl.float32) + tl.load(context + row // T * D + d, mask=m).to(tl.float32) + tl.load(pos + row % T * D + d, mask=m).to(tl.float32)
    tl.store(x + row.to(tl.int64) * D + d, total.to(x.dtype.element_ty), mask=m)
def begin(x): _begin[(49000,)](x, context, pos, 49, D=384, P=512, num_warps=1); return x
tell("begin: linear, then one kernel", lambda: begin(F.linear(patches, w, b)))
json.dump(out, open(sys.argv[1], "w"), indent=1)
