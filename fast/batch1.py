"""Captured evaluations of one image, packed and full, captured several times: batch1.py OUT.json TREE SECONDS [BATCHES]"""
import json, sys, time
from pathlib import Path
import torch

def main() -> None:
    from common import MODELS
    from flowquant.benchmark import packed as bp
    from flowquant.config.sampling import SolverConfig
    from flowquant.models.model import build_network
    from flowquant.quantization import expansion
    from flowquant.sampling.sampler import Sampler

    to, tree, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    batches = [int(b) for b in sys.argv[4].split(",")] if len(sys.argv) > 4 else [1]
    end = time.monotonic() + seconds
    dev, out, model = torch.device("cuda"), json.load(open(to)) if Path(to).exists() else {}, MODELS["mnist"]
    torch.manual_seed(0)
    weights = {k: v.detach() for k, v in build_network(model).state_dict().items()}
    bp.WIDTHS = (2, 1, 3, 4, 8)
    largest, together = expansion.LARGEST, expansion.TOGETHER

    def ms(work, per):
        work(); torch.cuda.synchronize(); a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2)); times = []
        for _ in range(25):
            a.record(); work(); b.record(); b.synchronize(); times.append(a.elapsed_time(b) / per)
        times.sort(); return round(times[12], 4)

    for form, _, network in bp._networks(weights, model):
        for batch in batches:
            noise, labels = torch.randn(batch, 1, 28, 28, device=dev) * 0.5, torch.arange(batch, device=dev) % 10
            for name, of in (("a layer", 3), ("two layers", 6), ("three layers", 9)):
                if (form == "full" and of > 3) or time.monotonic() > end: continue
                expansion.LARGEST, expansion.TOGETHER = of, max(together, of << 21)
                found = []
                for _ in range(4):  # captured anew
                    s = Sampler(network, model.flow, SolverConfig(steps=20, precision="bfloat16"), dev); s(noise, labels)
                    found.append(ms(lambda: s(noise, labels), 20))
                out.setdefault(f"{tree} {form} batch {batch} {name}", []).append(found)
                print(tree, form, "batch", batch, name, found, flush=True); json.dump(out, open(to, "w"), indent=1)

if __name__ == "__main__":
    main()
