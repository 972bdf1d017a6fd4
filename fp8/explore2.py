"""Which layers, products and steps in bfloat16 are worth it: real FP8. explore2.py MODEL.pt CONFIG.safetensors DATA EFF OUT SECONDS [N STEPS]"""
import gzip, json, math, sys, time
from pathlib import Path
import torch, torch.nn.functional as F
T0 = time.time()
from flowquant.config.sampling import SolverConfig
from flowquant.evaluation.features import load_extractor, run_extractor
from flowquant.models import fp8, fused
from flowquant.models.kernels.attention import attention
from flowquant.models.kernels.cast import cast
from flowquant.models.kernels.norm import add_norm
from flowquant.models.products import linear_relu
from flowquant.models.model import load_network
from flowquant.models.path import guided_velocity, initial_noise
from flowquant.quantization.variant import load_variant
from flowquant.sampling import fp8 as use
from flowquant.runtime import workspaces
workspaces.do_without()
model, like, data, eff, out, limit = *sys.argv[1:6], float(sys.argv[6])
N, S = (int(v) for v in sys.argv[7:9]) if len(sys.argv) > 7 else (5000, 100)
dev = torch.device("cuda" if torch.cuda.is_available() else "cpu"); B = min(N, 1000)
_, config = load_variant(Path(like)); weights = {k: v.float() for k, v in torch.load(model).items()}
shape = (config.image.channels, config.image.size, config.image.size)
wanted = (torch.arange(N) % 10).to(dev)
noises = {s: initial_noise(config.flow, s, range(N), shape).to(dev) for s in (0, 1, 2)}
ext = load_extractor("efficientnet-lite0", Path(eff), dev)
def features(u8):
    f, _ = run_extractor(ext, u8, dev, 256 if dev.type == "cuda" else 8, verbose=False); return f.to(dev).double()
def stats(f): return f.mean(0), torch.cov(f.T)
def root(c):
    e, v = torch.linalg.eigh(c); return (v * e.clamp(min=0).sqrt()) @ v.T
def fid(a, b, ra):
    m = ra @ b[1] @ ra
    return ((a[0] - b[0]).square().sum() + a[1].trace() + b[1].trace() - 2 * torch.linalg.eigvalsh(m).clamp(min=0).sqrt().sum()).item()
def u8(x): return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
raw = gzip.open(data + "/t10k-images-idx3-ubyte.gz").read()
real = torch.frombuffer(bytearray(raw[16:]), dtype=torch.uint8).view(-1, 1, 28, 28)
real = stats(features(real[: N if dev.type == "cpu" else 10000])); rroot = root(real[1])
found = {}
FF, original = set(), fp8.Fp8Layer.encode
def encode(self, x, as_e4m3, following):
    if self.layer not in FF: return original(self, x, as_e4m3, following)
    layer = self.layer
    if as_e4m3 is None: as_e4m3 = cast(x, self.project.cast)
    y = self.mix(attention(self.project(as_e4m3), layer.self_attn.heads, how=self.mix.cast))
    x = add_norm(x, y, layer.norm1.weight, layer.norm1.bias, layer.norm1.eps)
    hidden = linear_relu(x, layer.linear1.weight, layer.linear1.bias)
    y = fused._add_product(x, hidden, layer.linear2)
    settings = layer.norm2.weight, layer.norm2.bias, layer.norm2.eps
    if following is None: return add_norm(x, y, *settings), None
    after = torch.empty_like(x, dtype=fp8.E4M3)
    return add_norm(x, y, *settings, cast_out=after, how=following.project.cast), after
fp8.Fp8Layer.encode = encode
KEPT = ()
fp8._kept = lambda encoder: [encoder.layers[i] for i in KEPT]
fp8.LEAST_TOKENS = 1
if dev.type == "cpu": use.STEPS = 1
GUIDE = SolverConfig(steps=1).guidance
def vel(n, cond): return lambda x, t: guided_velocity(n, config.flow, x, t, cond, GUIDE)
def network(kept=None, ff=(), turns=use.TURNS):
    global KEPT
    n = load_network({k: v.clone() for k, v in weights.items()}, config).to(dev).eval().requires_grad_(False); n.cast(torch.bfloat16); fused.fuse(n)
    if kept is None: return n, None
    KEPT = kept; FF.clear(); use.TURNS = turns
    r = use.use_fp8(n, lambda c: vel(n, c), noises[0][:B], wanted[:B], S); assert r is not None
    layers = next(m for m in n.modules() if isinstance(m, fp8.Encoder)).layers
    FF.update(layers[i] for i in ff); return n, r
plain = None; base = {}
@torch.inference_mode()
def row(name, seeds=(0,), kept=None, ff=(), last=0, turns=use.TURNS):
    global plain
    if time.time() - T0 > limit: return
    n, r = network(kept, ff, turns)
    if plain is None: plain = n
    for s in seeds:
        images = []
        for a in range(0, N, B):
            x, c = noises[s][a : a + B].clone(), wanted[a : a + B]; v, w = vel(n, c), vel(plain, c)
            for k in range(S):
                t = x.new_full((1,), k / S)
                if r is not None: r.turn(t)
                x = x + (w if k >= S - last else v)(x, t) / S
            images.append(x)
        x = torch.cat(images).clamp(-1, 1); p = u8(x); f = features(p); d = {"fid": fid(real, stats(f), rroot)}
        if s not in base: base[s] = x, f, d["fid"], p
        else:
            e = (x - base[s][0]).square().flatten(1).mean(1).clamp(min=1e-12); g = f - base[s][1]
            d |= {"more": d["fid"] - base[s][2], "psnr": 10 * math.log10(4 / e.mean().item()), "dark": (x - base[s][0])[base[s][0] < -.99].mean().item(), "shift": g.mean(0).square().sum().item(), "moved": g.square().sum(1).mean().item()}
            if s == 0 and name in ("kept 0", "ff all"):  # where it comes from: the background as it was, and the background alone
                zero = base[s][3] == 0
                d["background as it was"] = fid(real, stats(features(torch.where(zero, base[s][3], p))), rroot) - base[s][2]
        found[f"{name} {s}"] = d; json.dump(found, open(out, "w"), indent=1); print(f"[{time.time() - T0:.0f}] {name} {s}", {k: round(v, 5) for k, v in d.items()}, flush=True)
row("bf16", (0, 1))
row("kept 0", (0, 1), (0,))
row("ff 0", (0, 1), (), (0,))
row("kept 0, last 5", (0,), (0,), last=5)
row("ff all", (0,), (), range(10))
row("ff 0 1", (0,), (), (0, 1))
row("kept 0 1", (0,), (0, 1))
row("ff 0, last 5", (0,), (), (0,), last=5)
row("ff 0 9", (0,), (), (0, 9))
row("kept 0 9", (0,), (0, 9))
row("kept 0 1 2", (0,), (0, 1, 2))
row("kept 0, last 10", (0,), (0,), last=10)
