"""Packed weights expanded ahead by groups, not one by one: fewer waits between streams. groups.py OUT [SECONDS]

A place holds consecutive weights of at most LIMIT bytes; while those in one place are multiplied by, the next group is
expanded into the other. Batches 1, 256, 1,000 at 1, 2 and 4 bits beside full precision, without cuBLAS's workspaces
(CUBLASLT_WORKSPACE_SIZE=0 CUBLAS_WORKSPACE_CONFIG=:0:0), and whether images are those of one by one.
"""
import json, sys, time
import torch
from torch import Tensor

from flowquant.quantization.expansion import ALIGNED, Turns


class Groups(Turns):
    limit = 0

    def __init__(self, weights, device) -> None:
        weights = list(weights)
        super().__init__(weights, device)
        most = max(self._places.shape[1], self.limit)
        self._places = torch.empty(2, most, dtype=torch.uint8, device=device)
        self._order: list = []  # as first asked for
        self._groups: list | None = None
        self._where: dict = {}  # key → group, offset
        self._current = -1

    def _bytes(self, weight, dtype) -> int:
        return -(-torch.Size(weight.shape).numel() * dtype.itemsize // ALIGNED) * ALIGNED

    def _learn(self) -> None:
        self._groups, size = [], 0
        for weight, dtype in self._order:
            need = self._bytes(weight, dtype)
            # The first group is one weight: nothing is expanded ahead of an evaluation's beginning.
            if not self._groups or len(self._groups) == 1 or size + need > self._places.shape[1]:
                self._groups.append([]); size = 0
            self._where[id(weight.packed)] = len(self._groups) - 1, size
            self._groups[-1].append((weight, dtype, size)); size += need

    def _view(self, group, offset, weight, dtype) -> Tensor:
        n = torch.Size(weight.shape).numel() * dtype.itemsize
        return self._places[group % 2, offset : offset + n].view(dtype).view(weight.shape)

    def expanded(self, weight, dtype) -> Tensor:
        key = id(weight.packed)
        if self._groups is None:
            if key not in {id(w.packed) for w, _ in self._order}:
                self._order.append((weight, dtype))
                room = self._view(len(self._order), 0, weight, dtype)
                weight.expand_into(room)
                return room
            self._learn()
        group, offset = self._where[key]
        if group != self._current:
            ahead, self._current = self._ahead, group
            self._ahead = None
            if ahead == group and self._aside is not None:
                torch.cuda.current_stream().wait_stream(self._aside)
            else:
                for w, d, o in self._groups[group]:
                    w.expand_into(self._view(group, o, w, d))
            if group + 1 < len(self._groups) and self._aside is not None:
                self._aside.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(self._aside):
                    for w, d, o in self._groups[group + 1]:
                        w.expand_into(self._view(group + 1, o, w, d))
                self._ahead = group + 1
        return self._view(group, offset, weight, dtype)


def main() -> None:
    from common import MODELS
    from flowquant.benchmark import packed as bp
    from flowquant.config.sampling import SolverConfig
    from flowquant.models.model import build_network
    from flowquant.quantization import packed_network
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
                for name, limit in (("one by one", None), ("3.2 MB", 3_200_000), ("a layer", 4_400_000), ("two layers", 8_800_000), ("five layers", 22_000_000)):
                    if (form == "full" and limit) or time.monotonic() > end: continue
                    packed_network.Turns = Turns if limit is None else type("G", (Groups,), {"limit": limit})
                    s = Sampler(network, model.flow, SolverConfig(steps=20, precision=precision), dev)
                    x = s(noise, labels)
                    same = None if first is None else bool(torch.equal(x, first)); first = x if first is None else first
                    out[f"{form} {precision} batch {batch} {name}"] = r = (*ms(lambda: s(noise, labels), 20), same)
                    print(form, precision, "batch", batch, name, r, flush=True)
                    json.dump(out, open(sys.argv[1], "w"), indent=1)


if __name__ == "__main__":
    main()
