"""Which of FP8's roundings cost FID: emulated, on a GPU. explore.py MODEL DATA WEIGHTS OUT.json GROUP SECONDS [N STEPS]"""
import gzip, json, math, sys, time
from contextlib import contextmanager
from pathlib import Path
import torch
from torch import nn
T0 = time.time()
from flowquant.config.sampling import SolverConfig
from flowquant.evaluation.features import load_extractor, run_extractor
from flowquant.models.e4m3 import E4M3, LARGEST, Covariance, power_of_two, rounded, rounded_in_order
from flowquant.models.fp8 import BESIDE, _slope
from flowquant.models.model import load_network
from flowquant.models.path import guided_velocity, initial_noise
from flowquant.models.solver import solve
from flowquant.models.transformer import EncoderLayer
from flowquant.quantization.variant import load_variant
from flowquant.sampling.sampler import Sampler
model, data, eff, out, group, limit = *sys.argv[1:6], float(sys.argv[6])
N, S = (int(v) for v in sys.argv[7:9]) if len(sys.argv) > 7 else (3000, 100)
dev = torch.device("cuda" if torch.cuda.is_available() else "cpu")
B = min(N, 1000)
found_all = {}
def save(name, row):
    found_all[name] = row; json.dump(found_all, open(out, "w"), indent=1); print(f"[{time.time() - T0:.0f}] {name}", {k: round(v, 6) for k, v in row.items()}, flush=True)
net, config = load_variant(Path(model)); weights = {k: v.detach().clone() for k, v in net.state_dict().items()}
shape = (config.image.channels, config.image.size, config.image.size)
wanted = torch.arange(N) % 10
noise = initial_noise(config.flow, 0, range(N), shape).to(dev); wanted = wanted.to(dev)
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
real = stats(features(real[: max(N, 200) if dev.type == "cpu" else 10000])); rroot = root(real[1])
# ---- the emulated network
def fresh(dtype=torch.bfloat16):
    n = load_network({k: v.clone() for k, v in weights.items()}, config).to(dev).eval().requires_grad_(False)
    if dtype == torch.bfloat16: n.cast(dtype)
    return n
def layers_of(n): return [m for m in n.modules() if isinstance(m, EncoderLayer)]
def parts_of(l): return [(l.self_attn, "in_proj_weight", "in_proj_bias"), (l.self_attn.out_proj, "weight", "bias"), (l.linear1, "weight", "bias"), (l.linear2, "weight", "bias")]
def vel(n, cond): return lambda x, t: guided_velocity(n, config.flow, x, t, cond, SolverConfig(steps=1).guidance)
PHASE = [1.0]
def q(x, s): return ((x / s).clamp(-LARGEST, LARGEST).to(E4M3).to(x.dtype)) * s
class Seen: pass
@torch.inference_mode()
def calibrate():
    n = fresh(); seen, hooks = {}, []
    for i, l in enumerate(layers_of(n)):
        for j, (m, w, b) in enumerate(parts_of(l)):
            s = Seen(); k = getattr(m, w).shape[1]; s.largest = 0.; s.cov = Covariance(k, dev); s.qcov = Covariance(k, dev); s.cross = torch.zeros(k, k, device=dev)
            s.total = s.qtotal = s.weight = 0.; s.count = 0; s.sum = s.qsum = s.square = 0.; seen[i, j] = s
            def note(mod, inp, o, s=s, j=j, l=l):
                x = inp[0].flatten(0, -2); s.largest = max(s.largest, x.abs().max().item()); f = x.float(); p = q(f, power_of_two(f.abs().max().item() * 2))
                s.cov.add(f); s.qcov.add(p); s.cross += f.T @ p; s.count += len(f); s.sum = s.sum + f.sum(0); s.qsum = s.qsum + p.sum(0); s.square = s.square + f.square().sum(0)
                if j == 2:
                    c = _slope(l.activation, o).flatten(0, -2).square(); s.total = s.total + c.T @ f; s.qtotal = s.qtotal + c.T @ p; s.weight = s.weight + c.sum(0)
                else: s.total, s.qtotal, s.weight = s.sum, s.qsum, torch.tensor(float(s.count), device=dev)
            hooks.append(m.register_forward_hook(note))
    solve(vel(n, wanted[:64]), noise[:64], "euler", 16)
    for h in hooks: h.remove()
    for s in seen.values():
        w = s.weight.clamp(min=1e-3).unsqueeze(-1); s.mean, s.qmean = s.total / w, s.qtotal / w; s.mu = s.sum / s.count; s.qmu = s.qsum / s.count
    return n, seen
plain, seen = calibrate()
orders = {}
def in_order(i, j, W):
    if (i, j) not in orders: orders[i, j] = rounded_in_order([W], [power_of_two(W.abs().max().item())], [seen[i, j].cov.value])[0]
    return orders[i, j].float() * power_of_two(W.abs().max().item())
@torch.inference_mode()
def emulated(spec):
    """spec(i, j) → dict(w=None|'nearest'|'order'|'fit', x=bool, shift=bool, eq=bool, top=K), or None"""
    n = fresh()
    for i, l in enumerate(layers_of(n)):
        for j, (m, wn, bn) in enumerate(parts_of(l)):
            d = spec(i, j)
            if not d: continue
            s = seen[i, j]; W = getattr(m, wn).float(); Q = W; mu = None
            if d.get("w") == "nearest": by = power_of_two(W.abs().max().item()); Q = rounded(W, by).float() * by
            elif d.get("w") == "order": Q = in_order(i, j, W)
            elif d.get("w") == "fit":
                C = s.qcov.value; X = s.cross / s.count - torch.outer(s.mu, s.qmu); lam = .01 * C.diagonal().mean()
                A = torch.linalg.solve(C.double() + lam.double() * torch.eye(len(C), device=dev), (X.T.double() + lam.double() * torch.eye(len(C), device=dev)) @ W.T.double()).T.float()
                by = power_of_two(A.abs().max().item()); Q = rounded_in_order([A], [by], [C])[0].float() * by
            bias = getattr(m, bn).float()
            if d.get("shift"): mu = s.mu
            if d.get("eq"): bias = bias + (W * s.mean).sum(1) - (Q * s.qmean).sum(1)
            elif d.get("w"): bias = bias + ((W - Q) * s.mean).sum(1)
            getattr(m, wn).copy_(Q); getattr(m, bn).copy_(bias)
            if d.get("x", True):
                sc = power_of_two(s.largest * 2); top = None
                if d.get("top"): top = (W.square().sum(0) * s.square).topk(d["top"]).indices
                def pre(mod, inp, sc0=sc, mu=mu, top=top, dith=d.get('dither'), sto=d.get("stochastic")):
                    x = inp[0]; f = x.float(); sc = sc0 * ((PHASE[0] if dith is True else 2 ** ((math.log2(PHASE[0]) + dith) % 1)) if dith else 1)
                    if sto:
                        z = (f / sc).clamp(-LARGEST, LARGEST); step = torch.exp2(z.abs().clamp(min=2**-6).log2().floor() - 3); z = ((z / step + torch.rand_like(z)).floor() * step).to(E4M3).to(x.dtype) * sc
                        return (z.to(x.dtype),)
                    p = q(f, sc) if mu is None else q(f - mu, sc) + mu
                    if top is not None: p[..., top] += q(f[..., top] - p[..., top], sc)
                    return (p.to(x.dtype) if mu is None and top is None else p.to(x.dtype),)
                m.register_forward_pre_hook(pre)
    return n
@torch.inference_mode()
def draw(n, last=0, first=0, steps=None):
    steps = steps or S; images = []
    for a in range(0, N, B):
        x, c = noise[a : a + B].clone(), wanted[a : a + B]; v, w = vel(n, c), vel(plain, c)
        for k in range(steps):
            PHASE[0] = 2 ** ((k * 0.6180339887) % 1)
            x = x + (w if k >= steps - last or k < first else v)(x, x.new_full((1,), k / steps)) / steps
        images.append(x)
    return torch.cat(images).clamp(-1, 1)

def halves(C, X, W, lam):
    eye = torch.eye(len(C), device=dev, dtype=torch.float64)
    return torch.linalg.solve(C.double() + lam * eye, (X.double() + lam * eye) @ W.T.double()).T.float()
@torch.inference_mode()
def sequential(damping=.01, narrow_only=False):
    """Each product fitted to what it is to give, from what it gets in FP8, after the products before it."""
    from flowquant.models.fp8 import _slope
    k = 16; c = torch.arange(64, device=dev) % 10; x = initial_noise(config.flow, 1, range(64), shape).to(dev); v = vel(plain, c); xs, ts = [], []
    for a in range(k):
        t = x.new_full((1,), a / k); xs.append(x.clone()); ts.append(t.expand(64)); x = x + v(x, t) / k
    got = {}
    enc = next(m for m in plain.modules() if type(m).__name__ == "Encoder")
    h = enc.register_forward_pre_hook(lambda m, inp: got.setdefault("x", inp[0].clone()))
    X, T, Cn = torch.cat(xs), torch.cat(ts), c.repeat(k)
    from flowquant.models.path import velocity as V
    V(plain, config.flow, X, T, Cn); h.remove()
    n = fresh(); R = got["x"].float(); H = R.clone()
    import torch.nn.functional as F
    def attend(l, qkv):
        b, m, w = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3; heads = l.self_attn.heads; out = []
        for part in qkv.split(128):
            q_, k_, v_ = part.view(len(part), m, 3, heads, w // heads).permute(2, 0, 3, 1, 4)
            out.append(F.scaled_dot_product_attention(q_, k_, v_).transpose(1, 2).reshape(len(part), m, w))
        return torch.cat(out)
    for i, l in enumerate(layers_of(n)):
        def product(j, ref, hat, slope=None):
            m, wn, bn = parts_of(l)[j]; W, b = getattr(m, wn).float(), getattr(m, bn).float(); s = seen[i, j]
            hat = q(hat.bfloat16().float(), power_of_two(s.largest * 2)); r, p = ref.flatten(0, 1), hat.flatten(0, 1)
            mr, mp = r.mean(0), p.mean(0); C = p.T @ p / len(p) - torch.outer(mp, mp); X = p.T @ r / len(p) - torch.outer(mp, mr)
            lam = damping * C.diagonal().mean().item(); A = halves(C, X, W, lam) if not narrow_only or j == 3 else W
            by = power_of_two(A.abs().max().item()); Q = rounded_in_order([A], [by], [C])[0].float() * by
            y = F.linear(ref, W, b); z = F.linear(hat, Q)
            if slope: g = (y > 0).float().flatten(0, 1); nb = ((y - z).flatten(0, 1) * g).sum(0) / g.sum(0).clamp(min=1)
            else: nb = (y - z).flatten(0, 1).mean(0)
            getattr(m, wn).copy_(Q); getattr(m, bn).copy_(nb)
            sc0 = power_of_two(s.largest * 2)
            m.register_forward_pre_hook(lambda mod, inp, sc0=sc0, j=j: (q(inp[0].float(), sc0 * (PHASE[0] if n.turning and j != 3 else 1)).to(inp[0].dtype),))
            return y, z + nb
        y, z = product(0, R, H); a, b = attend(l, y), attend(l, z)
        y, z = product(1, a, b); R, H = l.norm1.float()(R + y), l.norm1(H + z)
        y, z = product(2, R, H, slope=True); y, z = product(3, y.relu(), z.relu()) if True else None
        R, H = l.norm2.float()(R + y), l.norm2(H + z); l.norm1.bfloat16(); l.norm2.bfloat16()
        print(i, "relative error", ((R - H).norm() / R.norm()).item(), flush=True)
    n.turning = False
    return n
class _: pass
nn.Module.turning = False
base = None
def judge(name, x):
    global base
    f = features(u8(x)); row = {"fid": fid(real, stats(f), rroot)}
    if base is None: base = x, f
    else:
        e = (x - base[0]).square().flatten(1).mean(1).clamp(min=1e-12); d = f - base[1]
        row |= {"psnr": 10 * math.log10(4 / e.mean().item()), "median": (10 * torch.log10(4 / e)).median().item(), "mean": (x - base[0]).mean().item(),
                "dark": ((x - base[0])[base[0] < -.99]).mean().item(), "shift": d.mean(0).square().sum().item(), "moved": d.square().sum(1).mean().item()}
    save(name, row)
O = dict(w="order")
A = lambda i, j: dict(w="order")
variants = {
 "all": A,
 "weights": lambda i, j: dict(w="order", x=False), "weights nearest": lambda i, j: dict(w="nearest", x=False), "inputs": lambda i, j: dict(x=True),
 "all, means of rounded inputs": lambda i, j: dict(w="order", eq=True),
 "all, less means": lambda i, j: dict(w="order", shift=True), "all, less means, and means of rounded": lambda i, j: dict(w="order", shift=True, eq=True) if False else dict(w="order", shift=j in (0, 2)),
 "all, fitted": lambda i, j: dict(w="fit", eq=True),
 "all but first layer": lambda i, j: i > 0 and O, "all but two": lambda i, j: i > 1 and O, "all but first layer's attention": lambda i, j: (i > 0 or j > 1) and O, "all but first layer's feed-forward": lambda i, j: (i > 0 or j < 2) and O,
 "all but first project": lambda i, j: (i, j) != (0, 0) and O, "all but first widen": lambda i, j: (i, j) != (0, 2) and O, "all but first narrow": lambda i, j: (i, j) != (0, 3) and O,
 "all but widen": lambda i, j: j != 2 and O, "all but widen of 1, 2, 10": lambda i, j: not (j == 2 and i in (0, 1, 9)) and O, "all but project": lambda i, j: j != 0 and O, "all but narrow": lambda i, j: j != 3 and O, "all but mix": lambda i, j: j != 1 and O,
 "dither": lambda i, j: dict(w="order", dither=True), "dither widen": lambda i, j: dict(w="order", dither=j == 2), "dither 0 2": lambda i, j: dict(w="order", dither=j in (0, 2)), "dither not narrow": lambda i, j: dict(w="order", dither=j != 3), "inputs dither": lambda i, j: dict(x=True, dither=True),
 "widen's top 16 twice": lambda i, j: dict(w="order", top=16 if j == 2 else 0), "widen's top 64 twice": lambda i, j: dict(w="order", top=64 if j == 2 else 0), "first two layers' inputs kept": lambda i, j: dict(w="order", x=i > 1),
}
variants |= {"dither, each its own": lambda i, j: dict(w="order", dither=(j != 3) and (.001 + (.381966 * (4 * i + j)) % 1)), "dither, first layer kept": lambda i, j: i > 0 and dict(w="order", dither=j != 3), "dither, two layers kept": lambda i, j: i > 1 and dict(w="order", dither=j != 3), "dither, widen kept": lambda i, j: j != 2 and dict(w="order", dither=j != 3)}
variants |= {"dither, each its own, narrow too": lambda i, j: dict(w="order", dither=.001 + (.381966 * (4 * i + j)) % 1), "stochastic": lambda i, j: dict(w="order", stochastic=True), "dither, each its own, widen of first kept": lambda i, j: (i, j) != (0, 2) and dict(w="order", dither=(j != 3) and (.001 + (.381966 * (4 * i + j)) % 1)),
 "dither, each its own, first layer kept": lambda i, j: i > 0 and dict(w="order", dither=(j != 3) and (.001 + (.381966 * (4 * i + j)) % 1))}
G = {"H": ["all", "dither, each its own", "dither, each its own, first layer kept", "all but first layer", "float32", "dither, each its own, widen of first kept"], "n": ["dither, each its own", "dither, each its own, narrow too", "stochastic", "dither, each its own, first layer kept", "dither, each its own, widen of first kept"], "h": ["all", "dither, each its own", "dither not narrow", "dither", "dither, first layer kept", "dither, widen kept", "inputs dither", "weights", "dither, two layers kept", "float32"], "d": ["all", "dither not narrow", "dither, each its own", "dither", "dither, first layer kept"], "s": ["sequential", "sequential narrow", "sequential, dither", "sequential .1"], "0": ["all", "inputs", "weights", "all but first layer", "last 5", "all, means of rounded inputs", "500", "all, fitted", "all but first layer's attention", "all but first layer's feed-forward", "last 1", "weights nearest", "all but two"],
     "1": ["real fp8", "all but widen", "all, less means", "float32", "all but project", "all but narrow", "widen's top 64 twice", "first two layers' inputs kept", "all but first project", "all but first widen", "all but widen of 1, 2, 10", "widen's top 16 twice", "first 5", "noise", "all but mix"]}
judge("bfloat16", draw(plain))
for name in G[group]:
    if time.time() - T0 > limit: break
    if name.split()[0] in ("last", "first") and name.split()[1].isdigit(): x = draw(emulated(variants["all"]), **{name.split()[0]: int(name.split()[1])})
    elif name.startswith("sequential"):
        net_ = sequential(*{"sequential": (.01,), "sequential .1": (.1,), "sequential narrow": (.01, True), "sequential, dither": (.01,)}[name]); net_.turning = "dither" in name; x = draw(net_)
    elif name == "float32": x = draw(fresh(torch.float32))
    elif name == "noise": x = (base[0] + .01 * torch.randn_like(base[0])).clamp(-1, 1)
    elif name == "real fp8":
        s = Sampler(load_network({k: v.clone() for k, v in weights.items()}, config), config.flow, SolverConfig(steps=S, precision="fp8"), dev)
        x = torch.cat([s(noise[a : a + B], wanted[a : a + B]) for a in range(0, N, B)]).clamp(-1, 1)
    elif name == "500":
        for p in ("bfloat16", "fp8"):
            s = Sampler(load_network({k: v.clone() for k, v in weights.items()}, config), config.flow, SolverConfig(steps=5 * S, precision=p), dev)
            judge(f"{p}, {5 * S} steps", torch.cat([s(noise[a : a + B], wanted[a : a + B]) for a in range(0, N, B)]).clamp(-1, 1))
        continue
    else: x = draw(emulated(variants[name]))
    judge(name, x)
