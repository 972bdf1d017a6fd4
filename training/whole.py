"""The captured MNIST training step with each constant flipped in turn; losses beside float32's; the profile."""
import gc, json, sys, time, traceback
from contextlib import contextmanager
from dataclasses import replace
import torch
from common import MODELS, training
from flowquant.data.dataset import Split, place
from flowquant.models import fused_encoder
from flowquant.models.kernels import activation, attention, feedforward, norm, sums
from flowquant.training import adamw_kernel, flow_matching
from flowquant.training.flow_matching import Training

BEGUN, DEADLINE = time.monotonic(), float(sys.argv[2]) if len(sys.argv) > 2 else 58.0
dev, out, MODEL, BATCH = torch.device("cuda"), {}, MODELS["mnist"], 128
torch.manual_seed(0)
# Blobs at a place that tells the class, so that there is something to learn.
labels = torch.arange(4096) % 10
grid = torch.arange(28).float()
where = torch.stack([6 + 4 * (labels % 5), 8 + 12 * (labels // 5)], 1).float() + torch.randn(4096, 2)
bell = torch.exp(-((grid[None, :, None] - where[:, 1, None, None]) ** 2 + (grid[None, None] - where[:, 0, None, None]) ** 2) / 18)
images = (bell * 255).clamp(0, 255).to(torch.uint8)[:, None].contiguous()
split = place(Split(images, labels), dev)
order = torch.randperm(4096, device=dev).view(-1, BATCH)

def left():
    return DEADLINE - (time.monotonic() - BEGUN)

def save():
    json.dump(out, open(sys.argv[1], "w"), indent=1)

@contextmanager
def flipped(changes):
    old = [(m, n, getattr(m, n)) for m, n, _ in changes]
    for m, n, v in changes:
        setattr(m, n, v)
    try:
        yield
    finally:
        for m, n, v in old:
            setattr(m, n, v)

def clean():
    gc.collect(); torch.cuda.empty_cache()

def steps_of(t, count=20):
    def steps():
        for i in range(count):
            t.step(split, order[i % len(order)], 400)
    return steps

def timed(changes):
    with flipped(changes):
        t = Training(MODEL, training(batch=BATCH), 0, dev)
        work, times = steps_of(t), []
        work(); torch.cuda.synchronize()
        for _ in range(9):
            a, b = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            a.record(); work(); b.record(); b.synchronize(); times.append(a.elapsed_time(b) / 20)
        times.sort()
        found = {"ms": round(times[4], 4), "spread": round(times[6] - times[2], 4), "captured": t._graph is not None,
                 "loss": round(t._loss.item(), 4), "peak_MiB": torch.cuda.max_memory_allocated() >> 20}
        t._graph = None
    return found

FE, FM = fused_encoder, flow_matching
OLD_NORM = ((1, 1056, 1, 1), norm.BACKWARD_NORM[1])
BEFORE = [(FE, "TOGETHER", 1), (FE, "ASIDE", False), (FE, "IN_PRODUCTS", (False, False)), (FM, "ONE_PASS", False), (FM, "WRITTEN", False),
          (attention, "FEW_REGISTERS", None), (norm, "BACKWARD_NORM", OLD_NORM)]
T = feedforward.TILES
CASES = {
    "as it is": [],
    "IN_PRODUCTS neither": [(FE, "IN_PRODUCTS", (False, False))],
    "IN_PRODUCTS forward only": [(FE, "IN_PRODUCTS", (True, False))],
    "IN_PRODUCTS backward only": [(FE, "IN_PRODUCTS", (False, True))],
    "TOGETHER 1": [(FE, "TOGETHER", 1)],
    "TOGETHER 1 aside": [(FE, "TOGETHER", 1), (FE, "ASIDE", True)],
    "TOGETHER 2 aside": [(FE, "TOGETHER", 2), (FE, "ASIDE", True)],
    "TOGETHER 5": [(FE, "TOGETHER", 5)],
    "TOGETHER 5 aside": [(FE, "TOGETHER", 5), (FE, "ASIDE", True)],
    "ONE_PASS off": [(FM, "ONE_PASS", False)],
    "WRITTEN off": [(FM, "WRITTEN", False)],
    "FEW_REGISTERS none": [(attention, "FEW_REGISTERS", None)],
    "ATTENTION_WARPS backward 8": [(attention, "ATTENTION_WARPS", (4, 8)), (attention, "FEW_REGISTERS", None)],
    "BACKWARD_NORM old": [(norm, "BACKWARD_NORM", OLD_NORM)],
    "BACKWARD_NORM 4 528 4 1": [(norm, "BACKWARD_NORM", ((4, 528, 4, 1), norm.BACKWARD_NORM[1]))],
    "BACKWARD_NORM 2 528 4 2": [(norm, "BACKWARD_NORM", ((2, 528, 4, 2), norm.BACKWARD_NORM[1]))],
    "SUM_ROWS 64 32 4": [(sums, "SUM_ROWS", (64, 32, 4))],
    "VALUES 2048 8": [(adamw_kernel, "VALUES", (2048, 8))],
    "TILES 4 warps": [(feedforward, "TILES", ((128, 64, 64, 4, 4, None), (128, 64, 64, 4, 4, 160)))],
    "all of it off": BEFORE,
}

def losses(precision, dropout, count, changes=()):
    with flipped(changes):
        model = replace(MODEL, network=replace(MODEL.network, dropout=dropout))
        t = Training(model, training(batch=BATCH, precision=precision), 0, dev)
        found = torch.stack([t.step(split, order[i % len(order)], 400).clone() for i in range(count)]).tolist()
        t._graph = None
    return found

def curves(dropout, count):
    clean()
    mine, exact = losses("bfloat16", dropout, count), losses("float32", dropout, count)
    before = losses("bfloat16", dropout, count, BEFORE)
    again = losses("bfloat16", dropout, count)
    key = f"losses, dropout {dropout}"
    out[key] = {"new": mine, "float32": exact, "off": before}
    mean = lambda c: [round(sum(c[i:i + 50]) / len(c[i:i + 50]), 5) for i in range(0, count, 50)]
    far = lambda c: round(max(abs(a / b - 1) for a, b in zip(mean(c), mean(exact))), 5)
    print(f"{key}: means of 50: new {mean(mine)} float32 {mean(exact)}; farthest from float32: new {far(mine)} off {far(before)}; repeats to the bit: {mine == again}", flush=True)
    save()

def kernels():
    from torch.profiler import ProfilerActivity, profile
    clean()
    t = Training(MODEL, training(batch=BATCH), 0, dev)
    work = steps_of(t); work(); torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA, ProfilerActivity.CPU]) as prof:
        work(); torch.cuda.synchronize()
    rows = sorted(((e.key[:100], e.count / 20, round(e.self_device_time_total / 20, 2)) for e in prof.key_averages()
                   if e.self_device_time_total > 0 and e.device_type != torch.autograd.DeviceType.CPU), key=lambda r: -r[2])
    out["kernels"] = {"rows": rows, "sum_us": round(sum(r[2] for r in rows), 1), "launches": round(sum(r[1] for r in rows))}
    print("kernels", out["kernels"]["sum_us"], "us in", out["kernels"]["launches"], "launches", flush=True)
    for r in rows[:24]: print("   ", r, flush=True)
    t._graph = None
    save()

def attempt(name, work):
    if left() < 3:
        print(name, "skipped: out of time", flush=True)
        return
    try:
        work()
    except Exception as e:
        out[name] = repr(e)[:500]
        print(name, "FAILED", repr(e)[:300], flush=True)
        print("   ", *[f"{x.filename[-40:]}:{x.lineno}" for x in traceback.extract_tb(e.__traceback__)[-3:]], flush=True)
        save()

def case(name):
    clean(); torch.cuda.reset_peak_memory_stats()
    out[name] = timed(CASES[name])
    print(f"{name}: {out[name]}", flush=True)
    save()

first = ["as it is", "all of it off"]
for name in first:
    attempt(name, lambda: case(name))
attempt("kernels", kernels)
attempt("losses 0.1", lambda: curves(0.1, 300))
for name in CASES:
    if name not in first:
        attempt(name, lambda: case(name))
attempt("losses 0", lambda: curves(0.0, 300))
attempt("as it is", lambda: case("as it is"))
print(round(time.monotonic() - BEGUN, 1), "s", flush=True)
