"""Measures fused_kernels.py against what the package does: fused.py OUT.json"""
import json, sys
import torch, torch.nn.functional as F
from common import graph_us
from fused_kernels import linear_gelu, linear_norm
from flowquant.models.kernels.attention import attention
from flowquant.models.kernels.cast import Cast
from flowquant.models.kernels.norm import add_norm
from flowquant.models.kernels import attention as at

dev, out, E4 = torch.device("cuda"), {}, torch.float8_e4m3fn
def attempt(work, **kw):
    try: return [round(v, 2) for v in graph_us(work, **kw)]
    except Exception as e: return str(e)[:160]
def note(key, value):
    out[key] = value; print(key, value, flush=True); json.dump(out, open(sys.argv[1], "w"), indent=1)

one, count = torch.ones(1, device=dev), torch.zeros(1, dtype=torch.int32, device=dev)
how = Cast(one, count)
for rows, width, inner in ((49000, 384, 384), (49000, 384, 2048), (12544, 384, 384)):
    x = torch.randn(rows, inner, device=dev).bfloat16(); w = (torch.randn(width, inner, device=dev) / inner**0.5).bfloat16()
    b, g, be = (torch.randn(width, device=dev).bfloat16() for _ in range(3)); r = torch.randn(rows, width, device=dev).bfloat16()
    x8, w8 = x.to(E4), w.to(E4); c = torch.empty(rows, width, device=dev, dtype=E4)
    wanted = F.layer_norm((r.double() + F.linear(x.double(), w.double(), b.double()))[:512], (width,), g.double(), be.double())
    name = f"{rows}x{width}x{inner}"
    note(f"{name} bf16, two kernels", attempt(lambda: add_norm(r, F.linear(x, w, b), g, be, 1e-5)))
    note(f"{name} norm alone", attempt(lambda: add_norm(r, r, g, be, 1e-5)))
    note(f"{name} fp8, two kernels", attempt(lambda: add_norm(r, torch._scaled_mm(x8, w8.t(), one, one, bias=b, out_dtype=torch.bfloat16, use_fast_accum=True), g, be, 1e-5, cast_out=c, how=how)))
    for tile in ((64, 64, 8, 2), (64, 64, 8, 3), (64, 32, 8, 3), (64, 32, 8, 4)):
        try:
            found = linear_norm(x, w, b, r, g, be, tile)[:512].double()
            error = ((found - wanted).norm() / wanted.norm()).item()
        except Exception as e: error = str(e)[:100]
        note(f"{name} bf16 {tile}", [attempt(lambda: linear_norm(x, w, b, r, g, be, tile), repeats=10), error])
        note(f"{name} fp8 {tile}", attempt(lambda: linear_norm(x8, w8, b, r, g, be, tile, one, c, how), repeats=10))
x = torch.randn(64000, 768, device=dev).bfloat16(); w = torch.randn(3072, 768, device=dev).bfloat16(); b = torch.randn(3072, device=dev).bfloat16()
note("64000x3072x768 cublas", attempt(lambda: F.linear(x, w, b)))
note("64000x3072x768 cublas + gelu", attempt(lambda: F.gelu(F.linear(x, w, b))))
for tile in ((128, 256, 64, 8, 3), (128, 128, 64, 8, 4), (128, 128, 64, 4, 4), (256, 128, 64, 8, 3), (128, 256, 64, 8, 4)):
    note(f"64000x3072x768 gelu {tile}", attempt(lambda: linear_gelu(x, w, b, tile), repeats=10))
for images, tokens, heads, size in ((1000, 49, 12, 32), (1000, 64, 16, 48)):
    qkv = torch.randn(images, tokens, 3 * heads * size, device=dev).bfloat16()
    for warps in (1, 2, 4, 8):
        at.ATTENTION_WARPS = warps, 4
        note(f"attention {images}x{tokens}x{heads}x{size} warps {warps}", attempt(lambda: attention(qkv, heads)))
        note(f"attention to e4m3 {images}x{tokens}x{heads}x{size} warps {warps}", attempt(lambda: attention(qkv, heads, how=how)))
