"""quality2.py exact OUT.pt MODEL: float32's images. quality2.py times OUT.json MODEL: seconds of 1,000 × 500; PSNR to exact.pt beside it."""
import json, math, os, sys, time
from pathlib import Path
import torch
from flowquant.config.sampling import SolverConfig
from flowquant.models.model import load_network
from flowquant.models.path import initial_noise
from flowquant.quantization.variant import load_variant
from flowquant.models import fp8 as kept_
from flowquant.sampling import fp8
from flowquant.sampling.sampler import Sampler
from flowquant.runtime import workspaces
workspaces.do_without()
what, to, model = sys.argv[1:4]
dev = torch.device("cuda" if torch.cuda.is_available() else "cpu"); N, S = (1000, 500) if dev.type == "cuda" else (16, 4)
net, config = load_variant(Path(model)); weights = {k: v.detach() for k, v in net.state_dict().items()}
shape = (config.image.channels, config.image.size, config.image.size)
wanted, noise = torch.arange(N) % 10, initial_noise(config.flow, 0, range(N), shape).to(dev)
sync = torch.cuda.synchronize if dev.type == "cuda" else lambda: None
def run(precision, repeats):
    s = Sampler(load_network(weights, config), config.flow, SolverConfig(steps=S, precision=precision), dev); times = []
    if repeats: s(noise, wanted)
    for _ in range(max(repeats, 1)):
        sync(); a = time.perf_counter(); x = s(noise, wanted); sync(); times.append(time.perf_counter() - a)
    times.sort(); return x.clamp(-1, 1), times[len(times) // 2], times[-1] - times[0]
if what == "exact":
    x, seconds, _ = run("float32", 0); torch.save(x.cpu(), to + ".new"); os.rename(to + ".new", to); print("float32", seconds); sys.exit()
out, images = {}, {}
for name, precision, kept, of in (("fp8", "fp8", 2, 20), ("bfloat16", "bfloat16", 2, 20), ("fp8, all layers and steps", "fp8", 0, 10**9)):
    kept_.KEPT, fp8.OF_STEPS = kept, of; images[name], seconds, spread = run(precision, 5); out[name] = {"seconds": seconds, "spread": spread}
    print(name, out[name], flush=True); json.dump(out, open(to, "w"), indent=1)
exact = Path(to).with_name("exact.pt")
for _ in range(150):
    if exact.exists(): break
    time.sleep(.2)
base = torch.load(exact).to(dev)
for name, x in images.items():
    d = (x - base).float(); each = d.square().flatten(1).mean(1).clamp(min=1e-12)
    out[name] |= {"psnr": 10 * math.log10(4 / max(d.square().mean().item(), 1e-12)), "median psnr": (10 * torch.log10(4 / each)).median().item(), "mean difference": d.mean().item(), "mean image squared": d.mean(0).square().mean().item(), "dark": d[base < -.99].mean().item()}
    print(name, out[name], flush=True); json.dump(out, open(to, "w"), indent=1)
