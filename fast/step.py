"""Milliseconds of a training step, median of 9 × 20, of both networks; and a burst of 8192³ products."""
import json, sys
import torch
from common import MODELS, training
from flowquant.data.dataset import Split, place
from flowquant.training.flow_matching import Training
dev, out = torch.device("cuda"), {}
def ms(work, per, repeats=9):
    work(); torch.cuda.synchronize()
    a, b, times = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True), []
    for _ in range(repeats):
        a.record(); work(); b.record(); b.synchronize(); times.append(a.elapsed_time(b) / per)
    times.sort()
    return times[len(times) // 2], times[-2] - times[1]
x, y = (torch.randn(8192, 8192, device=dev, dtype=torch.bfloat16) for _ in "xy")
t, spread = ms(lambda: [x @ y for _ in range(30)], 30); out["burst TFLOP/s"] = 2 * 8192**3 / t / 1e9
for name, model in MODELS.items():
    shape = (model.image.channels, model.image.size, model.image.size)
    split = place(Split(torch.randint(256, (512, *shape), dtype=torch.uint8), torch.arange(512) % 10), dev)
    t = Training(model, training(batch=128), 0, dev); order = torch.arange(512, device=dev).view(4, 128)
    def steps():
        for i in range(20): t.step(split, order[i % 4], 400)
    out[name] = dict(zip(("ms", "spread"), ms(steps, 20))); t._graph = None; del t
print(json.dumps(out), flush=True)
json.dump(out, open(sys.argv[1], "w"), indent=1)
