"""Where the seconds of 1,000 images × 500 steps go."""
import time, torch
from exp import DEV, bp, networks
from flowquant.config.sampling import SolverConfig
from flowquant.data.pixels import to_uint8
from flowquant.models.path import initial_noise
from flowquant.sampling.sampler import Sampler

def now(): torch.cuda.synchronize(); return time.perf_counter()
with torch.inference_mode():
    name, model, network = next(iter(networks((2,))))
    for precision in ("bfloat16", "fp8"):
        for _ in range(4):
            t = time.perf_counter(); noise = initial_noise(model.flow, 0, range(1000), (1, 28, 28)); t1 = time.perf_counter(); on = noise.to(DEV); t2 = now()
            print(precision, f"noise {1e3 * (t1 - t):.1f} ms, to the GPU {1e3 * (t2 - t1):.1f}")
        labels = torch.arange(1000, device=DEV) % 10
        s = Sampler(network, model.flow, SolverConfig(steps=20, precision=precision), DEV); s(on, labels)
        time.sleep(1); times = []
        for _ in range(60):
            t = now(); s(on, labels); times.append((now() - t) / 20 * 1e3)
        print(precision, "20 steps, 60 times, ms a step:", *[f"{x:.3f}" for x in times])
        s = Sampler(network, model.flow, SolverConfig(steps=500, precision=precision), DEV); s(on, labels)
        for _ in range(3):
            t = now(); images = s(on, labels); t1 = now(); to_uint8(images).cpu(); t2 = now(); print(precision, f"500 steps {t1 - t:.4f} s, back {1e3 * (t2 - t1):.1f} ms")
        for pause in (0, 0.5, 2):
            time.sleep(pause); t = now(); s(on, labels); print(precision, f"after {pause} s: {now() - t:.4f} s")
