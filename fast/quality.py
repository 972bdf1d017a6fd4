"""F-MNIST network, 6,000 steps; PSNR of images (peak 2, same noise) against float32's: bf16, FP8, kept layers; 2 bits packed; and seconds of 1,000 × 500."""
import gzip, json, math, sys, time
import numpy as np, torch
from pathlib import Path
from common import MNIST, training
from flowquant.benchmark import packed as bp
from flowquant.config.sampling import SolverConfig
from flowquant.data.dataset import Split, place
from flowquant.models import fp8
from flowquant.models.model import load_network
from flowquant.quantization.packed_network import load_packed
from flowquant.sampling.sampler import Sampler
from flowquant.models.path import initial_noise
from flowquant.training.flow_matching import Training

dev, folder, out = torch.device("cuda"), Path(sys.argv[2]), {}
raw = lambda n: np.frombuffer(gzip.open(folder / n).read(), np.uint8)
images = torch.from_numpy(raw("train-images-idx3-ubyte.gz")[16:].copy()).view(-1, 1, 28, 28)
labels = torch.from_numpy(raw("train-labels-idx1-ubyte.gz")[8:].copy()).long()
split = place(Split(images, labels), dev)
t = Training(MNIST, training(), 0, dev); t._working.train()
started = time.time(); losses = []
for step in range(4000):
    if step == 3000: t.config = training(learning_rate=5e-5)
    rows = torch.randint(len(labels), (128,), device=dev)
    loss = t.step(split, rows, 10**9)
    if step % 200 == 0: losses.append(loss.item())
out["train_seconds"], out["losses"] = time.time() - started, losses
print(out, flush=True)
weights = {k: v.detach().cpu().clone() for k, v in t.network.state_dict().items()}
t._graph = None; del t
N, wanted = 1000, torch.arange(1000) % 10
noise = initial_noise(MNIST.flow, 0, range(N), (1, 28, 28)).to(dev)

def run(network, precision, steps=500):
    s = Sampler(network, MNIST.flow, SolverConfig(steps=steps, precision=precision), dev)
    if precision != "float32": s(noise, wanted)
    times = []
    for _ in range(1 if precision == "float32" else 3):
        torch.cuda.synchronize(); a = time.perf_counter(); x = s(noise, wanted); torch.cuda.synchronize(); times.append(time.perf_counter() - a)
    return x.clamp(-1, 1), sorted(times)[len(times) // 2]

def psnr(a, b): return 10 * math.log10(4 / (a - b).square().mean().item())
base, sec = run(load_network(weights, MNIST), "float32"); out["float32 seconds"] = sec
fits = fp8.fits
for name, kept in (("bfloat16", None), ("fp8", ()), ("fp8 first kept", (0,)), ("fp8 last kept", (9,)), ("fp8 first two kept", (0, 1)), ("fp8 first, last kept", (0, 9))):
    network = load_network(weights, MNIST)
    layers = list(network.transformer.layers)
    fp8.fits = lambda layer, kept=kept, layers=layers: not any(layer is layers[i] for i in kept or ()) and fits(layer)
    x, sec = run(network, "bfloat16" if kept is None else "fp8")
    out[name] = {"psnr": psnr(x, base), "seconds 1000x500": sec}; print(name, out[name], flush=True)
fp8.fits = fits
bp.WIDTHS = (2,)
for form, _, network in bp._networks(weights, MNIST):
    if form == "full": continue
    x, sec = run(network, "bfloat16"); y, sec8 = run(network, "fp8")
    out[form] = {"bf16 packed seconds": sec, "fp8 packed seconds": sec8, "psnr fp8 to bf16": psnr(y, x)}; print(form, out[form], flush=True)
json.dump(out, open(sys.argv[1], "w"), indent=1)
