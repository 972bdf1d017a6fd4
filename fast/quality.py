"""A trained network's images in bf16 and FP8 beside float32's of the same noise: PSNR (peak 2), seconds of 1,000 × 500; and packed at 2 bits."""
import json, math, sys, time
from pathlib import Path
import torch
from flowquant.benchmark import packed as bp
from flowquant.config.sampling import SolverConfig
from flowquant.models.model import load_network
from flowquant.models.path import initial_noise
from flowquant.quantization.variant import load_variant
from flowquant.sampling.sampler import Sampler
dev, out = torch.device(sys.argv[3] if len(sys.argv) > 3 else "cuda"), {}
N, S = (1000, 500) if dev.type == "cuda" else (20, 4)
net, config = load_variant(Path(sys.argv[2])); weights = {k: v.detach() for k, v in net.state_dict().items()}
shape = (config.image.channels, config.image.size, config.image.size)
wanted = torch.arange(N) % 10
noise = initial_noise(config.flow, 0, range(N), shape).to(dev)
sync = torch.cuda.synchronize if dev.type == "cuda" else lambda: None
def run(network, precision, repeats=5):
    s = Sampler(network, config.flow, SolverConfig(steps=S, precision=precision), dev)
    if precision == "float32": repeats = 1
    else: s(noise, wanted)
    times = []
    for _ in range(repeats):
        sync(); a = time.perf_counter(); x = s(noise, wanted); sync(); times.append(time.perf_counter() - a)
    times.sort()
    return x.clamp(-1, 1), times[len(times) // 2], times[-1] - times[0]
def psnr(a, b): return 10 * math.log10(4 / max((a.float() - b.float()).square().mean().item(), 1e-12))
def beside(x, y):
    d = (x - y).float(); each = d.square().flatten(1).mean(1).clamp(min=1e-12)
    return {"psnr": psnr(x, y), "median psnr": (10 * torch.log10(4 / each)).median().item(), "mean difference": d.mean().item(), "mean image squared": d.mean(0).square().mean().item()}
base, sec, _ = run(load_network(weights, config), "float32"); out["float32"] = {"seconds": sec}
def tried(name, precision="fp8", repeats=5):
    x, sec, spread = run(load_network(weights, config), precision, repeats)
    out[name] = {**beside(x, base), "seconds": sec, "spread": spread}; print(name, out[name], flush=True)
    json.dump(out, open(sys.argv[1], "w"), indent=1)
for precision in ("bfloat16", "fp8"): tried(precision, precision)
from flowquant.models import fp8
init = fp8.Product.__init__
fp8.Product.__init__ = lambda self, w, b, largest, saturated, mean=None, own=None: init(self, w, b, largest, saturated, mean)
tried("fp8, nearest values, corrected", repeats=3)
fp8.Product.__init__ = lambda self, w, b, largest, saturated, mean=None, own=None: init(self, w, b, largest, saturated)
tried("fp8, nearest values, not corrected", repeats=3)
fp8.Product.__init__ = init
s = Sampler(load_network(weights, config), config.flow, SolverConfig(steps=1, precision="fp8"), dev); sync(); a = time.perf_counter(); s(noise, wanted); sync()
out["first call of one step"] = time.perf_counter() - a; print("first call of one step", out["first call of one step"], flush=True)
bp.WIDTHS = (2,)
for form, _, network in bp._networks(weights, config):
    if form == "full": continue
    row = {}
    x, row["bf16 seconds"], row["bf16 spread"] = run(network, "bfloat16", 3); y, row["fp8 seconds"], row["fp8 spread"] = run(network, "fp8", 3)
    row["psnr fp8 to bf16"] = psnr(y, x); out[form] = row; print(form, row, flush=True)
    json.dump(out, open(sys.argv[1], "w"), indent=1)
json.dump(out, open(sys.argv[1], "w"), indent=1)
