"""One image from packed weights, by what is done about it: exp.py OUT.json SECONDS [STAGE]

Stages: ways (many ways, each captured four times), trace (when kernels of an evaluation run).
"""
import json, os, sys, time
from pathlib import Path
import torch
import triton
import triton.language as tl

from flowquant.benchmark import packed as bp
from flowquant.config.sampling import SolverConfig
from flowquant.models import fused
from flowquant.models.model import build_network
from flowquant.quantization import expansion, packed_kernel
from flowquant.quantization.packed_kernel import _index
from flowquant.runtime import cuda_graph
from flowquant.sampling.sampler import Sampler
from common import MODELS

DEV = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@triton.jit
def _joint(table, OUT: tl.constexpr, LEVELS: tl.constexpr, BITS: tl.constexpr, VALUES: tl.constexpr, WEIGHTS: tl.constexpr):
    program = tl.program_id(0)
    which = 0
    for w in tl.static_range(1, WEIGHTS):
        which += (program >= tl.load(table + w * 6 + 5)).to(tl.int32)
    row = table + which * 6
    packed = tl.load(row).to(tl.pointer_type(tl.uint8))
    levels = tl.load(row + 1).to(tl.pointer_type(tl.float16))
    out = tl.multiple_of(tl.load(row + 2), 16).to(tl.pointer_type(OUT))
    count = tl.load(row + 3).to(tl.int32)
    group = tl.load(row + 4).to(tl.int32)
    value = (program - tl.load(row + 5).to(tl.int32)) * VALUES + tl.arange(0, VALUES)
    inside = value < count
    level = _index(packed, value, inside, BITS) + value // group * LEVELS
    chosen = tl.load(levels + level, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + value, chosen.to(OUT), mask=inside)


TL = {torch.bfloat16: tl.bfloat16, torch.float32: tl.float32, torch.float16: tl.float16}
JOINT = [False]
plain = expansion.Turns._expand


def expand(self, number):
    group = self._groups[number]
    if not JOINT[0]:
        return plain(self, number)
    tables = vars(self).setdefault("_tables", {})
    key = tuple(group)
    if (number, key) not in tables:
        parts = {}
        for weight, room in group.values():
            parts.setdefault((weight.bits, weight.levels.shape[1], room.dtype), []).append((weight, room))
        made = []
        for (bits, levels, dtype), members in parts.items():
            rows, start = [], 0
            for weight, room in members:
                rows.append([weight.packed.data_ptr(), weight.levels.data_ptr(), room.data_ptr(), room.numel(), room.numel() // len(weight.levels), start])
                start += triton.cdiv(room.numel(), packed_kernel.VALUES)
            made.append((torch.tensor(rows, dtype=torch.int64).to(DEV), start, bits, levels, dtype))
        tables[number, key] = made
    for table, programs, bits, levels, dtype in tables[number, key]:
        _joint[(programs,)](table, OUT=TL[dtype], LEVELS=levels, BITS=bits, VALUES=packed_kernel.VALUES, WEIGHTS=len(table), num_warps=packed_kernel.WARPS)


expansion.Turns._expand = expand
STREAMS = {}


def stream(priority):
    if (0, priority) not in STREAMS:
        STREAMS[0, priority] = torch.cuda.Stream(priority=priority)
    return STREAMS[0, priority]


def set_priority(priority):
    cuda_graph._aside = lambda device: stream(priority)


within = fused._add_product


def apart(x, given, linear):
    return linear(given)


def ms(work, per, repeats=25):
    work(); torch.cuda.synchronize(); a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2)); times = []
    for _ in range(repeats):
        a.record(); work(); b.record(); b.synchronize(); times.append(a.elapsed_time(b) / per)
    times.sort(); return round(times[len(times) // 2], 4)


def networks(widths, kind="mnist"):
    model = MODELS[kind]
    torch.manual_seed(0)
    weights = {k: v.detach() for k, v in build_network(model).state_dict().items()}
    bp.WIDTHS = widths
    for name, _, network in bp._networks(weights, model):
        yield name, model, network


def sampler(network, model, steps=20):
    return Sampler(network, model.flow, SolverConfig(steps=steps, precision="bfloat16"), DEV)


def inputs(model, batch):
    return torch.randn(batch, model.image.channels, model.image.size, model.image.size, device=DEV) * 0.5, torch.arange(batch, device=DEV) % 10


BASE = dict(room=True, soon=4, priority=-1, joint=False, values=(1024, 4), largest=3, within=True)
WAYS = {"base": {}, **{f"{v}/{w}": dict(values=(v, w)) for v, w in ((2048, 4), (2048, 8), (4096, 8), (8192, 8), (8192, 16))},
    "no priority": dict(priority=0), "half a layer": dict(largest=2), "two layers": dict(largest=6)}
MANY = ("base", "2048/4", "4096/8", "no priority")
has_room = getattr(expansion.Turns, "has_room", None)


def use(way):
    s = {**BASE, **way}
    expansion.SOON, JOINT[0], expansion.LARGEST = s["soon"], s["joint"], s["largest"]
    expansion.TOGETHER = max(1 << 24, s["largest"] << 21)
    packed_kernel.VALUES, packed_kernel.WARPS = s["values"]
    set_priority(s["priority"])
    expansion.Turns.has_room = has_room if s["room"] else (lambda self, weight, dtype: dtype.itemsize <= 2)
    fused._add_product = within if s["within"] else apart


def ways(to, end):
    from dataclasses import replace
    out = {}

    def at(label, model, network, batch, names, captures, repeats):
        noise, labels = inputs(model, batch)
        for way in names:
            if time.monotonic() > end: return
            use(WAYS[way]); found = []
            for _ in range(captures):
                s = sampler(network, model)
                s(noise, labels)
                found.append(ms(lambda: s(noise, labels), 20, repeats))
            out.setdefault(f"{label} batch {batch} {way}", []).append(found)
            print(label, "batch", batch, way, found, flush=True)
            json.dump(out, open(to, "w"), indent=1)

    for kind in ("mnist", "cifar10"):
        held = {name: (model, network) for name, model, network in networks((2, 4), kind)}
        for round in range(3):
            for batch in (1, 256, 1000):
                for name in ("full", "2 bits", "4 bits"):
                    names = ("base", "no priority") if name == "full" else ("base", "2048/8", "4096/8") if name == "4 bits" else WAYS
                    at(f"{kind}, {name}", *held[name], batch, names if batch < 1000 else names if name == "full" else ("base", "2048/8", "4096/8"), 3 if batch == 1 else 1, 9)


def trace(to, end):
    for kind, batch in (("mnist", 256), ("mnist", 1), ("cifar10", 1), ("cifar10", 256)):
        trace_of(to, kind, batch)


def trace_of(to, kind, batch):
    from torch.profiler import ProfilerActivity, profile
    for name, model, network in networks((2,), kind):
        noise, labels = inputs(model, batch)
        for way in ("base",):
            use(WAYS[way]); s = sampler(network, model); s(noise, labels); torch.cuda.synchronize()
            with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as found:
                s(noise, labels); torch.cuda.synchronize()
            where = Path(to).with_suffix(f".{name[0]}{way[0]}.trace.json")
            found.export_chrome_trace(str(where))
            events = [e for e in json.load(open(where))["traceEvents"] if e.get("cat") == "kernel"]
            where.unlink()
            events.sort(key=lambda e: e["ts"])
            many = len(events) // 20
            events = events[10 * many - 5 : 11 * many + 5]
            print("==", kind, batch, name, way, many, "kernels an evaluation")
            first = events[0]["ts"]
            for e in events:
                print(f"{e['ts'] - first:8.2f} {e['dur']:6.2f} {e['args'].get('stream')} {e['args'].get('grid')} {e['name'][:70]}")
            sys.stdout.flush()


if __name__ == "__main__":
    with torch.inference_mode():
        {"ways": ways, "trace": trace}[sys.argv[3]](sys.argv[1], time.monotonic() + float(sys.argv[2]))
