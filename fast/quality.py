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
base, sec, _ = run(load_network(weights, config), "float32"); out["float32"] = {"seconds": sec}
for precision in ("bfloat16", "fp8"):
    x, sec, spread = run(load_network(weights, config), precision)
    out[precision] = {"psnr": psnr(x, base), "seconds": sec, "spread": spread}; print(precision, out[precision], flush=True)
from flowquant.models import fp8
init, mm = fp8.Product.__init__, torch._scaled_mm
def tried(name):
    x, sec, spread = run(load_network(weights, config), "fp8", 3)
    out[name] = {"psnr": psnr(x, base), "mean difference": (x - base).mean().item(), "seconds": sec}; print(name, out[name], flush=True)
tried("fp8, corrected")
fp8.Product.__init__ = lambda self, w, b, largest, saturated, mean=None: init(self, w, b, largest, saturated)
tried("fp8, not corrected")
fp8.Product.__init__ = init
torch._scaled_mm = lambda *a, **k: mm(*a, **{**k, "use_fast_accum": False})
tried("fp8, corrected, slow sums")
torch._scaled_mm = mm
bp.WIDTHS = (2,)
for form, _, network in bp._networks(weights, config):
    if form == "full": continue
    row = {}
    x, row["bf16 seconds"], row["bf16 spread"] = run(network, "bfloat16", 3); y, row["fp8 seconds"], row["fp8 spread"] = run(network, "fp8", 3)
    row["psnr fp8 to bf16"] = psnr(y, x); out[form] = row; print(form, row, flush=True)
    json.dump(out, open(sys.argv[1], "w"), indent=1)
json.dump(out, open(sys.argv[1], "w"), indent=1)
