"""Refinement on N devices, ms a step: refine.py N MODEL DATA; STEPS steps at each batch.

What is refined: at most 32 levels by a price, as where frontier.yaml's refined-2 starts, but not
compensated; chosen here, once in WORK.
"""
import sys
from pathlib import Path

from common import DEVICE, TINY, WORK, load, save
from tqdm import tqdm

from flowquant.config.method import MethodConfig
from flowquant.config.refinement import RefineConfig
from flowquant.runtime.device import choose_devices
from flowquant.stages.quantize import quantize
from flowquant.stages.refine import read
from flowquant.training import matching
from flowquant.training.distributed import together
from flowquant.training.refinement import Refinement

STEPS = 40 if TINY else 200
BATCHES = (32, 64) if TINY else (256, 1024)
if TINY:
    matching.LOG_STEPS = 10


def measure(group, device, files, report=None):
    full, config, quantized, metadata, split = read(*files)
    for batch in BATCHES:
        settings = RefineConfig(steps=STEPS, batch=batch, assignments="trained", learning_rate=3e-4, value_learning_rate=2e-4)
        job = Refinement(full, quantized, config, settings, split, device, 0.0, group, from_levels="compensate" in metadata)
        job.run(tqdm(disable=True), lambda: None)
        if report:
            report(batch, job.curve, not job._launched)
        del job


def follow(group, device, files):
    measure(group, device, files)


def main():
    count, model, data = int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
    devices = choose_devices(DEVICE, count, "refine.devices")
    unrefined = WORK / "unrefined.safetensors"
    if not unrefined.exists():
        method = MethodConfig(levels="entropy:0.17", granularity="scaled", scope="matrices", levels_dtype="float16", float_dtype="float16", embedders=8, coding="ans")
        quantize(model=model, output=unrefined, report=WORK / "unrefined.json", method=method, dataset="x", variant="priced/5bit", bits=5, device=DEVICE)
    files = model, unrefined, data
    found = {"devices": count, "steps": STEPS, "rows": {}}
    one = load("d1") if count > 1 else None

    def report(batch, curve, captured):
        seconds = (curve[-1]["seconds"] - curve[0]["seconds"]) / (curve[-1]["step"] - curve[0]["step"])
        row = {"ms_a_step": round(1000 * seconds, 3), "points_a_second": round(batch / seconds), "captured": captured, "losses": [r["loss"] for r in curve], "curve": curve}
        more = ""
        if one and (other := one["rows"].get(str(batch))):
            row["speed_up"] = round(other["ms_a_step"] / row["ms_a_step"], 3)
            row["loss_largest_relative"] = max(abs(a / b - 1) for a, b in zip(row["losses"], other["losses"]))
            more = f", x{row['speed_up']}, losses within {row['loss_largest_relative']:.2e}"
        found["rows"][str(batch)] = row
        save(f"d{count}", found)
        print(f"d: {count} device(s), refinement at {batch}: {row['ms_a_step']} ms a step, loss {row['losses'][-1]:.3g}{more}", flush=True)

    with together(devices, follow, files) as group:
        measure(group, devices[0], files, report)


if __name__ == "__main__":
    main()
