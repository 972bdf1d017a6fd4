"""Packed weights expanded ahead several at a time: how much at once. groups.py OUT [SECONDS]

Batches 1, 1,000, 256 at 2, 1, 4 bits beside full precision, without cuBLAS's workspaces
(CUBLASLT_WORKSPACE_SIZE=0 CUBLAS_WORKSPACE_CONFIG=:0:0), and whether images are those of one by one.
"""
import json, sys, time
import torch

from flowquant.quantization import expansion

def main() -> None:
    from common import MODELS
    from flowquant.benchmark import packed as bp
    from flowquant.config.sampling import SolverConfig
    from flowquant.models.model import build_network
    from flowquant.sampling.sampler import Sampler

    end = time.monotonic() + float(sys.argv[2] if len(sys.argv) > 2 else 100)
    dev, out, model = torch.device("cuda"), {}, MODELS["mnist"]
    torch.manual_seed(0)
    weights = {k: v.detach() for k, v in build_network(model).state_dict().items()}
    bp.WIDTHS = (2, 1, 4)

    def ms(work, per):
        work(); torch.cuda.synchronize(); a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2)); times = []
        for _ in range(9):
            a.record(); work(); b.record(); b.synchronize(); times.append(a.elapsed_time(b) / per)
        times.sort(); return round(times[4], 4), round(times[6] - times[2], 4)

    for form, _, network in bp._networks(weights, model):
        for batch in (1, 1000, 256):
            for precision in ("bfloat16", "fp8"):
                noise, labels, first = torch.randn(batch, 1, 28, 28, device=dev) * 0.5, torch.arange(batch, device=dev) % 10, None
                for name, limit in (("one", 0), ("5 MiB", 5 << 20), ("2.5 MiB", 5 << 19), ("9 MiB", 9 << 20), ("all", 1 << 30)):
                    if (form == "full" and limit) or (precision == "fp8" and name not in ("one", "5 MiB")) or time.monotonic() > end: continue
                    expansion.TOGETHER = limit
                    s = Sampler(network, model.flow, SolverConfig(steps=20, precision=precision), dev)
                    x = s(noise, labels)
                    same = None if first is None else bool(torch.equal(x, first)); first = x if first is None else first
                    out[f"{form} {precision} batch {batch} {name}"] = r = (*ms(lambda: s(noise, labels), 20), same)
                    print(form, precision, "batch", batch, name, r, flush=True)
                    json.dump(out, open(sys.argv[1], "w"), indent=1)


if __name__ == "__main__":
    main()
