"""Every way that was thought of, kernel by kernel, in µs, and how far from float32: trials.py OUT.json"""
import json
import sys
import time

import torch
import torch.nn.functional as F
import triton
from common import graph_us

import kernels as own
from flowquant.models.kernels import attention as at
from flowquant.models.kernels import linear as lin
from flowquant.models.kernels import norm as no
from flowquant.models.kernels import relu as re
from flowquant.models.kernels import tokens as to
from flowquant.models.kernels.cast import Cast, cast

E4, BF, dev, out = torch.float8_e4m3fn, torch.bfloat16, torch.device("cuda"), {}
START, LIMIT = time.time(), 54
D, WIDE, HEADS, TOKENS = 384, 2048, 12, 49
TD = own.TensorDescriptor
SMS = torch.cuda.get_device_properties(dev).multi_processor_count


def save():
    json.dump(out, open(sys.argv[1], "w"), indent=1)


def near(found, wanted):
    """Relative distance over the first and the last rows."""
    found, wanted = found.float(), wanted.float()
    return float((found - wanted).norm() / wanted.norm())


def tell(key, work, check=None):
    """Time a way, after what it makes was checked; never raise."""
    if time.time() - START > LIMIT:
        out[key] = "no time"
        print(key, "no time", flush=True)
        return
    entry = {}
    try:
        made = work()
        torch.cuda.synchronize()
        if check is not None:
            entry["error"] = check(made)
        entry["us"] = [round(v, 2) for v in graph_us(work)]
    except Exception as e:
        entry["failed"] = repr(e)[:300]
    out[key] = entry
    print(f"{time.time() - START:5.1f} s  {key}: {entry}", flush=True)
    save()


def section(work, *args):
    try:
        work(*args)
    except Exception as e:
        print(work.__name__, args, "failed:", repr(e)[:400], flush=True)
        out[f"{work.__name__} {args}"] = repr(e)[:400]
        save()
    torch.cuda.empty_cache()


def ends(t):
    return torch.cat([t[:1500], t[-1500:]])


one = torch.ones(1, device=dev)


def counter():
    return torch.zeros(1, dtype=torch.int32, device=dev)


def feed_forward(rows, full, ours=False):
    """linear1 with ReLU in FP8 and bfloat16: by libraries' products, or by candidates of our own."""
    torch.manual_seed(0)
    x8 = torch.randn(rows, D, device=dev).to(E4)
    w8 = torch.randn(WIDE, D, device=dev).to(E4)
    w2 = torch.randn(D, WIDE, device=dev).to(E4)
    scale = torch.full((1,), 8.0, device=dev)  # deviation of 157: 0.4 % beyond 448
    bias, bias2 = (torch.randn(WIDE, device=dev) * 50).to(BF), torch.randn(D, device=dev).to(BF)
    plain = ends(x8).float() @ w8.float().t() * 8 + bias.float()
    wanted = plain.relu().clamp(max=448).to(E4)
    count = counter()
    how = Cast(one, count)
    name = f"{rows} fp8 linear1:"
    hidden = torch.empty(rows, WIDE, device=dev, dtype=E4)

    def product(x=x8, into=None):
        way = {} if into is None else {"out": into}
        return torch._scaled_mm(x, w8.t(), scale, one, bias=bias, out_dtype=E4, use_fast_accum=True, **way)

    def narrow(x=hidden):
        return torch._scaled_mm(x, w2.t(), one, one, bias=bias2, out_dtype=BF, use_fast_accum=True)

    if not ours:
        tell(f"{name} our Triton kernel, as it was", lambda: lin.linear_activate(x8, w8, bias, scale, False, how), lambda y: near(ends(y), wanted))
        tell(f"{name} _scaled_mm to bf16", lambda: torch._scaled_mm(x8, w8.t(), scale, one, bias=bias, out_dtype=BF, use_fast_accum=True))
        tell(f"{name} _scaled_mm to e4m3", product, lambda y: {
            "nan": int(y.float().isnan().sum()), "largest": float(y.float().abs().max()),
            "from float32": near(ends(y), plain.clamp(-448, 448).to(E4))})
        if full:
            for result in (2.0, 0.5):
                try:
                    scaled = torch._scaled_mm(x8[:64], w8.t(), scale, one, bias=bias, scale_result=torch.full((1,), result, device=dev), out_dtype=E4, use_fast_accum=True)
                    same = bool(scaled.view(torch.int8).equal(product(x8[:64]).view(torch.int8)))
                    print(f"scale_result {result} is ignored: {same}", flush=True)
                    out[f"scale_result {result} ignored"] = same
                except Exception as e:
                    print("scale_result:", repr(e)[:200], flush=True)

        def right(y):
            count.zero_()
            again = product()
            full_count = int((again.view(torch.int8) >= 0x7E).sum())
            re.relu_(again, count)
            return {"from float32": near(ends(y), wanted), "negative": int((again.view(torch.int8) < 0).sum()), "counted": int(count), "of": full_count}

        hidden.view(torch.int8).random_(0, 100)
        tell(f"{name} the pass", lambda: re.relu_(hidden, count))
        if full:
            for words in ((1024, 4), (2048, 4), (8192, 8), (4096, 4)):
                def changed(words=words):
                    kept, re.WORDS = re.WORDS, words
                    try:
                        return re.relu_(hidden, count)
                    finally:
                        re.WORDS = kept
                tell(f"{name} the pass {words}", changed)
            def forward(n, x=hidden):
                ints = x.view(torch.int32)
                own.relu_forward[(triton.cdiv(ints.numel(), 4096),)](ints, count, ints.numel(), WORDS=4096, COUNT=n, num_warps=8)
            tell(f"{name} the pass forward", lambda: forward(True))
            tell(f"{name} the pass forward, no count", lambda: forward(False))
            tell(f"{name} _scaled_mm, pass forward", lambda: forward(True, product()))
        tell(f"{name} _scaled_mm and pass", lambda: re.relu_(product(), count), right)
        tell(f"{name} _scaled_mm, pass and linear2", lambda: narrow(re.relu_(product(), count)))
        tell(f"{name} linear2 alone", narrow)
        if full:
            for chunks in (2, 4):
                each = -(-rows // chunks // 16) * 16
                result = torch.empty(rows, D, device=dev, dtype=BF)

                def parts(each=each, result=result):
                    for start in range(0, rows, each):
                        x, into = x8[start:start + each], result[start:start + each]
                        part = hidden[:len(x)]
                        re.relu_(product(x, part), count)
                        torch._scaled_mm(part, w2.t(), one, one, bias=bias2, out_dtype=BF, use_fast_accum=True, out=into)
                tell(f"{name} _scaled_mm, pass and linear2 in {chunks} parts", parts)

    def resident(x, w, into, m, n, stages, warps, programs, by, e4):
        xd, wd, od = TD.from_tensor(x, [m, 128]), TD.from_tensor(w, [n, 128]), TD.from_tensor(into, [m, n])
        across = WIDE // n
        own.resident[(programs // across * across,)](xd, wd, bias, by, od, count, rows, WIDE, M=m, N=n, K=128, E4=e4, STAGES=stages, num_warps=warps)
        return into

    def tiles(x, w, into, m, n, k, halves, warps, stages, programs, by, e4):
        xd, wd, od = TD.from_tensor(x, [m, k]), TD.from_tensor(w, [n, k]), TD.from_tensor(into, [m, n // 2 if halves else n])
        own.tiles[(programs,)](xd, wd, bias, by, od, count, rows, WIDE, D, M=m, N=n, K=k, HALVES=halves, E4=e4, num_warps=warps, num_stages=stages)
        return into

    if ours:
        sizes = ((128, 128, 1, 4, 2), (128, 256, 2, 8, 1), (128, 128, 2, 8, 1), (128, 128, 1, 8, 2)) if full else ((128, 128, 1, 4, 2),)
        for m, n, stages, warps, by in sizes:
            tell(f"{name} resident {m}x{n}, {stages} stages, {warps} warps, {by} a SM", lambda m=m, n=n, stages=stages, warps=warps, by=by: resident(x8, w8, hidden, m, n, stages, warps, by * SMS, scale, True), lambda y: near(ends(y), wanted))
        for m, n, halves, warps, stages, by in ((128, 128, False, 4, 3, 2), (128, 256, True, 8, 3, 1)) if full else ():
            tell(f"{name} tiles {m}x{n}, halves {halves}, {warps} warps, {stages} stages, {by} a SM", lambda m=m, n=n, halves=halves, warps=warps, stages=stages, by=by: tiles(x8, w8, hidden, m, n, 128, halves, warps, stages, by * SMS, scale, True), lambda y: near(ends(y), wanted))
    del hidden
    xb, wb, w2b = x8.to(BF), w8.to(BF), w2.to(BF)
    wanted = (ends(xb).float() @ wb.float().t() + bias.float()).relu()
    name = f"{rows} bf16 linear1:"
    big = torch.empty(rows, WIDE, device=dev, dtype=BF)
    if not ours:
        tell(f"{name} cuBLAS with ReLU, as it was", lambda: torch._addmm_activation(bias, xb, wb.t(), out=big), lambda y: near(ends(y), wanted))
        tell(f"{name} cuBLAS with ReLU and linear2", lambda: F.linear(torch._addmm_activation(bias, xb, wb.t(), out=big), w2b, bias2))
        if full:
            tell(f"{name} cuBLAS without ReLU", lambda: torch.addmm(bias, xb, wb.t(), out=big))
            for chunks in (2, 4):
                each = -(-rows // chunks // 16) * 16
                result = torch.empty(rows, D, device=dev, dtype=BF)

                def parts(each=each, result=result):
                    for start in range(0, rows, each):
                        x, into = xb[start:start + each], result[start:start + each]
                        torch.addmm(bias2, torch._addmm_activation(bias, x, wb.t(), out=big[:len(x)]), w2b.t(), out=into)
                tell(f"{name} cuBLAS with ReLU and linear2 in {chunks} parts", parts)
        return
    for m, n, halves, warps, stages, by in ((128, 256, True, 8, 3, 1), (128, 128, False, 4, 3, 1)) if full else ((128, 256, True, 8, 3, 1),):
        tell(f"{name} tiles {m}x{n}, halves {halves}, {warps} warps, {stages} stages, {by} a SM", lambda m=m, n=n, halves=halves, warps=warps, stages=stages, by=by: tiles(xb, wb, big, m, n, 64, halves, warps, stages, by * SMS, one, False), lambda y: near(ends(y), wanted))
    for m, n, stages, warps, by in ((64, 128, 2, 4, 1), (128, 64, 1, 4, 2)) if full else ():
        tell(f"{name} resident {m}x{n}, {stages} stages, {warps} warps, {by} a SM", lambda m=m, n=n, stages=stages, warps=warps, by=by: resident(xb, wb, big, m, n, stages, warps, by * SMS, one, False), lambda y: near(ends(y), wanted))


def norms(rows, full):
    """add_norm, with a cast and without."""
    torch.manual_seed(0)
    x, y = (torch.randn(rows, D, device=dev).to(BF) for _ in range(2))
    g, b = (torch.randn(D, device=dev).to(BF) for _ in range(2))
    c, how = torch.empty_like(x, dtype=E4), Cast(torch.full((1,), 32.0, device=dev), counter())
    wanted = F.layer_norm((x.float() + y.float()), (D,), g.float(), b.float())
    before = no.NORM
    for setting in ((2, 1), (4, 4), (1, 1), (4, 1), (4, 2)) if full else ((2, 1), (4, 4)):
        no.NORM = setting, (4, 4)
        tell(f"{rows} norm {setting}", lambda: no.add_norm(x, y, g, b, 1e-5), lambda o: near(o, wanted))
        tell(f"{rows} norm {setting} shared", lambda: no.add_norm(x, y[0], g, b, 1e-5)) if setting in ((2, 1), (4, 4)) else None
        tell(f"{rows} norm {setting} cast", lambda: no.add_norm(x, y, g, b, 1e-5, cast_out=c, how=how), lambda o: [near(o, wanted), near(c.float() / 32, wanted)])
    no.NORM = before
    o = torch.empty_like(x)
    for each, warps in ((1, 1), (4, 1)) if full else ():
        for is_cast in (False, True):
            def parts(each=each, warps=warps, is_cast=is_cast):
                own.norm_parts[(triton.cdiv(rows, each),)](x, y, g, b, o, c, how.inverse, how.saturated, rows, 1e-5, A=256, B=128, CAST=is_cast, EACH=each, num_warps=warps)
                return o
            tell(f"{rows} norm in parts, {each} rows, {warps} warps, cast {is_cast}", parts, lambda o: near(o, wanted))
    tell(f"{rows} cast alone", lambda: cast(x, how))
    tell(f"{rows} copy alone", lambda: o.copy_(x))


def attentions(images):
    torch.manual_seed(0)
    qkv = torch.randn(images, TOKENS, 3 * D, device=dev).to(BF)
    how = Cast(torch.full((1,), 32.0, device=dev), counter())
    q, k, v = qkv[:50].float().view(50, TOKENS, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
    wanted = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(50, TOKENS, D)
    before = at.ATTENTION_WARPS
    for warps in (4, 2, 8, 1):
        at.ATTENTION_WARPS = warps, 4
        tell(f"attention {images}, {warps} warps", lambda: at.attention(qkv, HEADS), lambda o: near(o[:50], wanted))
        tell(f"attention {images}, {warps} warps, cast", lambda: at.attention(qkv, HEADS, how=how), lambda o: near(o[:50].float() / 32, wanted))
    at.ATTENTION_WARPS = before


def residuals(rows, full):
    """out_proj and linear2 with residual and norm."""
    torch.manual_seed(0)
    g, b, bias = (torch.randn(D, device=dev).to(BF) for _ in range(3))
    for inner in (D, WIDE):
        x = torch.randn(rows, inner, device=dev).to(BF)
        w = (torch.randn(D, inner, device=dev) / inner**0.5).to(BF)
        r = torch.randn(rows, D, device=dev).to(BF)
        x8, w8 = x.to(E4), w.to(E4)
        name = f"{rows}x{inner} bf16:"
        wanted = F.layer_norm(ends(r).float() + F.linear(ends(x).float(), w.float(), bias.float()), (D,), g.float(), b.float())
        tell(f"{name} linear", lambda: F.linear(x, w, bias))
        tell(f"{name} linear, add_norm", lambda: no.add_norm(r, F.linear(x, w, bias), g, b, 1e-5), lambda o: near(ends(o), wanted))
        total = r.clone()
        tell(f"{name} addmm_ alone", lambda: total.addmm_(x, w.t()))
        total = r.clone()

        def summed():
            total.addmm_(x, w.t())
            return no.add_norm(total, bias, g, b, 1e-5)
        tell(f"{name} addmm_, norm", summed, lambda o: near(ends(o), wanted))
        tell(f"{rows}x{inner} fp8: linear", lambda: torch._scaled_mm(x8, w8.t(), one, one, bias=bias, out_dtype=BF, use_fast_accum=True))
        c, how = torch.empty(rows, D, device=dev, dtype=E4), Cast(torch.full((1,), 32.0, device=dev), counter())
        tell(f"{rows}x{inner} fp8: linear, add_norm", lambda: no.add_norm(r, torch._scaled_mm(x8, w8.t(), one, one, bias=bias, out_dtype=BF, use_fast_accum=True), g, b, 1e-5, cast_out=c, how=how))
        o = torch.empty_like(r)
        wanted8 = F.layer_norm(ends(r).float() + F.linear(ends(x8).float(), w8.float(), bias.float()), (D,), g.float(), b.float())

        def fused(x, w, m, k, warps, stages, e4):
            own.linear_norm[(triton.cdiv(rows, m),)](TD.from_tensor(x, [m, k]), TD.from_tensor(w, [256, k]), TD.from_tensor(w, [128, k]), bias, one, r, g, b, o, c, how.inverse, how.saturated, rows, inner, 1e-5, A=256, B=128, M=m, K=k, CAST=e4, num_warps=warps, num_stages=stages)
            return o
        if full and inner == D:
            for m, warps, stages in ((64, 8, 3), (64, 8, 2)):
                tell(f"{name} in one kernel {m}, {warps} warps, {stages} stages", lambda: fused(x, w, m, 64, warps, stages, False), lambda o: near(ends(o), wanted))
                tell(f"{rows}x{inner} fp8: in one kernel {m}, {warps} warps, {stages} stages", lambda: fused(x8, w8, m, 128, warps, stages, True), lambda o: near(ends(o), wanted8))


def beginnings(images):
    torch.manual_seed(0)
    patches = torch.randn(images, TOKENS, 16, device=dev).to(BF)
    w, b = torch.randn(D, 16, device=dev).to(BF), torch.randn(D, device=dev).to(BF)
    context, position = torch.randn(images, D, device=dev).to(BF), torch.randn(1, TOKENS, D, device=dev).to(BF)
    wanted = (F.linear(patches.float(), w.float(), b.float()) + context.float()[:, None] + position.float())

    tell(f"begin {images} as it was", lambda: F.linear(patches, w, b) + context[:, None] + position, lambda o: near(o, wanted))
    before = to.TILE
    for tile in (before, (64, 64, 4), (32, 128, 4)):
        to.TILE = tile
        tell(f"begin {images} {tile}", lambda: to.begin(patches, w, b, context, position), lambda o: near(o, wanted))
    to.TILE = before


section(feed_forward, 49000, True)
section(norms, 49000, True)
section(attentions, 1000)
section(residuals, 49000, True)
section(beginnings, 1000)
section(feed_forward, 49000, True, True)
section(residuals, 12544, False)
section(feed_forward, 12544, False)
section(norms, 12544, False)
section(feed_forward, 12544, False, True)
section(attentions, 256)
print(f"{time.time() - START:.0f} s in all", flush=True)
save()
