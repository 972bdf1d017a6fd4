"""Top kernels of a sampling step (bf16, FP8, packed; batch 1, 256, 1,000) and of a training step."""
import json, sys, time
import torch
from torch.profiler import ProfilerActivity, profile
from common import MODELS, training
from flowquant.benchmark import packed as bp
from flowquant.config.sampling import SolverConfig
from flowquant.data.dataset import Split, place
from flowquant.models.model import build_network, load_network
from flowquant.quantization.packed_network import PackedWeight
from flowquant.sampling.sampler import Sampler
from flowquant.training.flow_matching import Training

dev, out = torch.device("cuda"), {}

def save():
    json.dump(out, open(sys.argv[1], "w"), indent=1)

def top(work, per):
    work(); torch.cuda.synchronize()
    a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    times = []
    for _ in range(7):
        a.record(); work(); b.record(); b.synchronize(); times.append(a.elapsed_time(b) / per)
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as prof:
        work(); torch.cuda.synchronize()
    rows = sorted(((e.key[:90], e.count / per, round(e.self_device_time_total / per, 2)) for e in prof.key_averages() if e.self_device_time_total > 0 and e.device_type != torch.autograd.DeviceType.CPU), key=lambda r: -r[2])
    return {"ms": sorted(times)[3], "ms_spread": sorted(times)[5] - sorted(times)[1], "kernels_us": rows[:30], "sum_us": round(sum(r[2] for r in rows), 1)}

def sampler_of(network, model, precision, steps=20):
    return Sampler(network, model.flow, SolverConfig(steps=steps, precision=precision), dev)

for name, model in ((n, MODELS[n]) for n in (sys.argv[2:] or MODELS)):
    torch.manual_seed(0)
    weights = {k: v.detach() for k, v in build_network(model).state_dict().items()}
    shape = (model.image.channels, model.image.size, model.image.size)
    bp.WIDTHS = (2,) if name == "cifar10" else (1, 2, 3, 4, 8)
    for form, _, network in bp._networks(weights, model):
        for precision in ("bfloat16", "fp8"):
            for batch in (1, 256, 1000):
                ahead = [True, False] if form == "2 bits" else [True]
                for aside in ahead:
                    s = sampler_of(network, model, precision)
                    noise, labels = torch.randn(batch, *shape, device=dev) * 0.5, torch.arange(batch, device=dev) % 10
                    try:
                        if not aside:
                            for m in network.modules():
                                if isinstance(m, PackedWeight) and m.turns is not None: m.turns._aside = None
                            if precision == "fp8":  # made anew when calibrated
                                continue
                        s(noise, labels)
                        key = f"{name} {form} {precision} batch {batch}" + ("" if aside else ", nothing ahead")
                        out[key] = top(lambda: s(noise, labels), 20)
                        out[key]["captured"] = s._graph is not None
                        print(f"{key}: {out[key]['ms']:.3f} ± {out[key]['ms_spread']:.3f} ms, kernels {out[key]['sum_us']} us, captured {s._graph is not None}", flush=True)
                    except Exception as e:
                        out[f"{name} {form} {precision} {batch}"] = repr(e)[:300]; print(form, precision, batch, repr(e)[:300], flush=True)
                    save()
    batch = 128
    images = torch.randint(256, (4 * batch, *shape), dtype=torch.uint8)
    split = place(Split(images, torch.arange(4 * batch) % 10), dev)
    t = Training(model, training(batch=batch), 0, dev)
    order = torch.arange(4 * batch, device=dev).view(4, batch)
    def steps():
        for i in range(20):
            t.step(split, order[i % 4], 400)
    out[f"{name} training"] = top(steps, 20)
    print(name, "training", out[f"{name} training"]["ms"], flush=True)
    for r in out[f"{name} training"]["kernels_us"][:12]: print("   ", r)
    save(); t._graph = None; del t
