"""order.py OUT.json MODEL TREE: seconds of 1,000 × 200 steps by how much a product writes before ReLU passes over it, layers kept, turning; a tree's kernels."""
import json, sys, time
from pathlib import Path
import torch
from flowquant.config.sampling import SolverConfig
from flowquant.models.model import load_network
from flowquant.models.path import initial_noise
from flowquant.quantization.variant import load_variant
from flowquant.models import fp8
from flowquant.sampling import fp8 as use
from flowquant.sampling.sampler import Sampler
from flowquant.runtime import workspaces
workspaces.do_without()
to, model, tree = sys.argv[1:4]
dev = torch.device("cuda" if torch.cuda.is_available() else "cpu"); N, S = (1000, 200) if dev.type == "cuda" else (4, 2)
net, config = load_variant(Path(model)); weights = {k: v.detach() for k, v in net.state_dict().items()}
shape = (config.image.channels, config.image.size, config.image.size)
wanted, noise = torch.arange(N) % 10, initial_noise(config.flow, 0, range(N), shape).to(dev)
sync = torch.cuda.synchronize if dev.type == "cuda" else lambda: None
out = json.load(open(to)) if Path(to).exists() else {}
M = 2**20
rows = [("bf16", "bfloat16", 24 * M, 1, True), ("24M", "fp8", 24 * M, 1, True), ("whole", "fp8", 2**40, 1, True), ("all 24M", "fp8", 24 * M, 0, True), ("all 24M stay", "fp8", 24 * M, 0, False)]
if tree == "now": rows += [("48M", "fp8", 48 * M, 1, True), ("34M", "fp8", 34 * M, 1, True), ("16M", "fp8", 16 * M, 1, True), ("12M", "fp8", 12 * M, 1, True), ("8M", "fp8", 8 * M, 1, True)]
elif tree == "forward": rows += [("all whole stay", "fp8", 2**40, 0, False)]
turns = use.TURNS
for name, precision, cached, kept, turning in rows:
    fp8.CACHED, fp8.KEPT, use.TURNS = cached, kept, turns if turning else 0.0
    s = Sampler(load_network(weights, config), config.flow, SolverConfig(steps=S, precision=precision), dev); s(noise, wanted); times = []
    for _ in range(5): sync(); a = time.perf_counter(); s(noise, wanted); sync(); times.append(time.perf_counter() - a)
    times.sort(); out[f"{tree} {name}"] = [times[2] * 1e3 / S, (times[-1] - times[0]) * 1e3 / S]; print(tree, name, "ms %.4f range %.4f" % tuple(out[f"{tree} {name}"]), flush=True); json.dump(out, open(to, "w"), indent=1)
    del s
if dev.type == "cuda":
    from torch.profiler import profile, ProfilerActivity
    fp8.CACHED, fp8.KEPT, use.TURNS = 24 * M, 1, turns
    s = Sampler(load_network(weights, config), config.flow, SolverConfig(steps=2, precision="fp8"), dev); s(noise, wanted)
    with profile(activities=[ProfilerActivity.CUDA]) as p:
        for _ in range(5): s(noise, wanted)
        sync()
    for e in sorted(p.key_averages(), key=lambda e: -e.self_device_time_total)[:28]: print(tree, e.key[:70], e.count / 10, "%.1f us an evaluation, %.2f each" % (e.self_device_time_total / 10, e.self_device_time_total / e.count))
