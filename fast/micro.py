"""Tile sizes of the packed kernels and of the FP8 linear layer, swept; ring ahead or not."""
import itertools, json, sys, time
import torch, torch.nn.functional as F
from common import graph_us, MODELS
from flowquant.quantization import packed_kernel as pk
from flowquant.models.kernels import linear as lin
from flowquant.models.kernels.cast import Cast
from flowquant.models.products import linear_relu
from flowquant.models.kernels.activation import activate

out, dev, started = {}, torch.device("cuda"), time.time()
E4 = torch.float8_e4m3fn
SHAPES = [(1152, 384), (384, 384), (2048, 384), (384, 2048)]

def save():
    json.dump(out, open(sys.argv[1], "w"), indent=1)

def packed(bits, n, k, groups):
    p = torch.randint(0, 256, (n * k * bits // 8 + 8,), dtype=torch.uint8, device=dev)
    return p, (torch.randn(groups, 2**bits, device=dev) * 0.05).half()

def attempt(work, **kw):
    try:
        return [round(v, 2) for v in graph_us(work, **kw)]
    except Exception as e:
        return str(e)[:120]

best_tile = (16, 128, 4, 3)
# 1: few tokens: cuBLAS bf16 against the packed product
for tokens in (49, 64):
    for n, k in SHAPES:
        x = torch.randn(tokens, k, device=dev).bfloat16(); b = torch.randn(n, device=dev).bfloat16()
        w = torch.randn(n, k, device=dev).bfloat16()
        row = out[f"few {tokens} {n}x{k}"] = {"cublas": attempt(lambda: F.linear(x, w, b))}
        for bits in (2, 4, 8):
            p, lv = packed(bits, n, k, n)
            best = None
            configs = [(16,64,4,3),(16,128,4,3),(16,128,4,2),(16,128,8,3),(16,256,8,3),(16,256,8,2),(16,512,8,2),(16,512,16,2),(32,128,4,3),(32,128,8,3),(32,256,8,3)] if bits == 2 else [best_tile]
            for tile in configs:
                pk.TILES = tile, tile
                t = attempt(lambda: pk.packed_linear(x, p, lv, None, bits, n, b), repeats=10)
                row[f"{bits} bits {tile}"] = t
                if isinstance(t, list) and (best is None or t[0] < best[0]):
                    best = (t[0], tile)
            if best:
                row[f"best {bits}"] = best
                best_tile = best[1]
        print(tokens, n, k, row["cublas"], [row.get(f"best {b}") for b in (2, 4, 8)], flush=True)
        save()
# crossing: packed product against expanding and cuBLAS, by tokens
pk.TILES = (16, 128, 4, 3), (16, 512, 8, 2)
for tokens in (16, 49, 98, 128, 256, 512):
    n, k = 2048, 384
    x = torch.randn(tokens, k, device=dev).bfloat16(); b = torch.randn(n, device=dev).bfloat16()
    p, lv = packed(2, n, k, n); w = torch.empty(n, k, device=dev, dtype=torch.bfloat16)
    def both():
        pk.expand_into(w, p, lv, None, 2); F.linear(x, w, b)
    out[f"crossing {tokens}"] = {"packed": attempt(lambda: pk.packed_linear(x, p, lv, None, 2, n, b)), "expanded": attempt(both)}
    print("crossing", tokens, out[f"crossing {tokens}"], flush=True)
# 2: expanding
for n, k in SHAPES:
    for bits in (1, 2, 3, 4, 8):
        p, lv = packed(bits, n, k, n)
        for dtype in (torch.bfloat16, E4):
            w = torch.empty(n, k, device=dev, dtype=dtype)
            for values, warps in ((512, 4), (1024, 4), (2048, 4), (2048, 8)) if bits in (2, 3) else ((1024, 4),):
                pk.EXPANDED, pk.EXPANDING_WARPS = values, warps
                out[f"expand {bits} {n}x{k} {str(dtype)[6:]} v{values} w{warps}"] = attempt(lambda: pk.expand_into(w, p, lv, None, bits), repeats=10)
pk.EXPANDED, pk.EXPANDING_WARPS = 1024, 4
print({k: v for k, v in out.items() if k.startswith("expand 2")}, flush=True); save()
# 3: FP8 linear with its activation
one = torch.ones(1, device=dev)
for rows, n, k, gelu in ((49000, 2048, 384, False), (12544, 2048, 384, False), (64000, 3072, 768, True)):
    x8 = torch.randn(rows, k, device=dev).to(E4); w8 = torch.randn(n, k, device=dev).to(E4)
    xb, wb = x8.bfloat16(), w8.bfloat16(); b = torch.randn(n, device=dev).bfloat16()
    how = Cast(one, torch.zeros(1, dtype=torch.int32, device=dev))
    seed = torch.zeros(1, dtype=torch.int64, device=dev)
    row = out[f"linear {rows}x{n}x{k}"] = {}
    row["bf16 with activation"] = attempt(lambda: F.gelu(F.linear(xb, wb, b)) if gelu else linear_relu(xb, wb, b))
    row["scaled_mm alone"] = attempt(lambda: torch._scaled_mm(x8, w8.t(), one, one, bias=b, out_dtype=torch.bfloat16, use_fast_accum=True))
    for tile in ((128,128,128,4,3),(128,128,128,8,3),(128,128,128,8,2),(128,256,128,8,3),(256,128,128,8,3),(128,128,64,4,4),(128,128,64,8,4),(64,256,128,4,3),(64,128,128,4,3),(128,256,64,8,4),(128,64,128,4,3)):
        lin.TILE = tile
        row[str(tile)] = attempt(lambda: lin.linear_activate(x8, w8, b, one, gelu, how), repeats=10)
    print(rows, n, k, row, flush=True); save()
print(f"{time.time()-started:.0f} s")
