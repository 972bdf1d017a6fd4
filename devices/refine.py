"""Refinement on N GPUs: python refine.py N [NET:BATCH ...] (after prepare.py column, prepare.py unet).

NET is `column`, the prepared Fashion-MNIST network, or `unet`, the CIFAR-10 U-Net as initialized:
quantized to 2 bits a row (lloyd), `assignments: trained`. Steps a second after the first 100, and the
losses (means of 50 steps), compared with those of refine.py 1 where OUT has them. STEPS (300).
"""

import json
import os
import sys
from dataclasses import replace

import torch
from common import DEVICE, OUT, PREPARED, TINY, WORK, column, report, run_of, section, unet

from flowquant.config.method import MethodConfig
from flowquant.config.model import ModelConfig
from flowquant.config.refinement import RefineConfig
from flowquant.models.model import build_network, write_model
from flowquant.stages.quantize import quantize
from flowquant.stages.refine import refine
from flowquant.training import matching

STEPS = int(os.environ.get("STEPS", "20" if TINY else "300"))
if TINY:
    matching.LOG_STEPS = 5
METHOD = MethodConfig(
    levels="lloyd", granularity="row", scope="matrices", levels_dtype="float16", float_dtype="float16"
)


def files(net: str) -> dict:
    """A quantized network and what else the stage is told of it; made once in WORK."""
    config = column() if net == "column" else unet()
    name = config["datasets"][0]
    folder = WORK / "refine" / net
    folder.mkdir(parents=True, exist_ok=True)
    model = PREPARED / f"results/column/models/{name}_model.safetensors"
    if net == "unet":
        model = folder / "model.safetensors"
        if not model.exists():
            torch.manual_seed(0)
            kind = section(ModelConfig, run_of(config).presets[name])
            network = build_network(kind)
            # Its last layers begin with zeros, which have nothing to quantize.
            weights = {k: v if v.abs().max() > 0 else torch.randn_like(v) * 0.02 for k, v in network.state_dict().items()}
            write_model(model, weights, kind, {})
    unrefined = folder / "unrefined.safetensors"
    if not unrefined.exists():
        quantize(
            model=model, output=unrefined, report=folder / "unrefined.json", method=METHOD, dataset=name,
            variant="lloyd/2bit", bits=2, device=DEVICE,
        )
    return {"model": model, "unrefined": unrefined, "data": PREPARED / f"results/data/{name}.safetensors", "dataset": name}


def main() -> dict:
    rows = []
    for word in wanted:
        net, _, batch = word.partition(":")
        row = {"net": net, "batch": int(batch), "devices": count}
        place = WORK / "refine" / f"{net}-{batch}-{count}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "state.pt").unlink(missing_ok=True)
        try:
            refine(
                **files(net), output=place / "refined.safetensors", report=place / "report.json",
                curve=place / "curve.jsonl", checkpoint=place / "state.pt", variant="lloyd/2bit",
                settings=RefineConfig(steps=STEPS, batch=int(batch), assignments="trained"),
                device=DEVICE, devices=count, checkpoint_seconds=1e9,
            )
            curve = [json.loads(line) for line in (place / "curve.jsonl").read_text().splitlines()]
            skip = min(2, len(curve) - 1) - 1
            seconds = (curve[-1]["seconds"] - curve[skip]["seconds"]) / (curve[-1]["step"] - curve[skip]["step"])
            error = json.loads((place / "report.json").read_text())["velocity_error"]
            row |= {"steps_per_second": round(1 / seconds, 2), "images_per_second": round(row["batch"] / seconds), "velocity_error": error}
            row["losses"] = [line["loss"] for line in curve]
            one = OUT / f"refine-1_{net}-{batch}.json"
            if count > 1 and one.exists():
                base = json.loads(one.read_text())
                row["speed_up"] = round(row["steps_per_second"] / base["steps_per_second"], 3)
                row["loss_largest_relative"] = max(abs(a / b - 1) for a, b in zip(row["losses"], base["losses"]))
            (OUT / f"refine-{count}_{net}-{batch}.json").write_text(json.dumps(row) + "\n")
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {str(error)[:400]}"
        rows.append(row)
        print(json.dumps(row), flush=True)
    if all("error" in row for row in rows):
        raise RuntimeError(rows[0]["error"])
    return {"devices": count, "steps": STEPS, "rows": rows}


if __name__ == "__main__":
    count = int(sys.argv[1])
    default = ["column:40", "unet:16"] if TINY else ["column:256", "column:2048", "unet:128", "unet:512"]
    wanted = sys.argv[2:] or default
    report(f"refine-{count}", main)
