"""Captured evaluations at few tokens: packed products, or expanding (ahead or not) and cuBLAS."""
import json, sys, time
import torch
from common import MODELS
from flowquant.benchmark import packed as bp
from flowquant.config.sampling import SolverConfig
from flowquant.models.model import build_network
from flowquant.quantization import packed_network
from flowquant.quantization.packed_network import PackedWeight
from flowquant.sampling.sampler import Sampler
dev, out, model = torch.device("cuda"), {}, MODELS["mnist"]
torch.manual_seed(0)
weights = {k: v.detach() for k, v in build_network(model).state_dict().items()}
bp.WIDTHS = (1, 2, 4)
def ms(work, per):
    work(); torch.cuda.synchronize(); a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2)); times = []
    for _ in range(9):
        a.record(); work(); b.record(); b.synchronize(); times.append(a.elapsed_time(b) / per)
    times.sort(); return round(times[4], 4), round(times[6] - times[2], 4)
for form, _, network in bp._networks(weights, model):
    for few in (128, 0):
        for batch in (1, 2, 4, 16, 64) if few == 0 else (1, 2):
            for aside in (True, False):
                if form == "full" and (few or not aside): continue
                packed_network.FEW_TOKENS = few
                s = Sampler(network, model.flow, SolverConfig(steps=20, precision="bfloat16"), dev)
                noise, labels = torch.randn(batch, 1, 28, 28, device=dev) * 0.5, torch.arange(batch, device=dev) % 10
                if not aside:
                    for m in network.modules():
                        if isinstance(m, PackedWeight) and m.turns is not None: m.turns._aside = None
                s(noise, labels)
                out[f"{form} batch {batch} few {few} ahead {aside}"] = r = ms(lambda: s(noise, labels), 20)
                print(form, "batch", batch, "few", few, "ahead", aside, r, flush=True)
                if not aside:
                    for m in network.modules():
                        if isinstance(m, PackedWeight) and m.turns is not None: m.turns._aside = torch.cuda.Stream(dev)
json.dump(out, open(sys.argv[1], "w"), indent=1)
