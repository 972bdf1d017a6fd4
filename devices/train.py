"""Training the CIFAR-10 U-Net on N GPUs: python train.py N [BATCH ...] (after prepare.py unet).

For each global batch (512 and 1024): steps a second, after the first steps, and the losses of the
first STEPS (300) steps, which are compared with those of train.py 1 where OUT has them.
"""

import json
import os
import sys
import time

import torch
from common import DEVICE, OUT, PREPARED, TINY, report, run_of, section, unet
from tqdm import tqdm

from flowquant.config.model import ModelConfig
from flowquant.config.training import TrainingConfig
from flowquant.runtime.device import choose_devices
from flowquant.stages.train import fit_and_held_out
from flowquant.training.distributed import together
from flowquant.training.flow_matching import Training

STEPS = int(os.environ.get("STEPS", "6" if TINY else "300"))
WARM = min(50, STEPS // 3)


class Enough(Exception):
    """So many steps were taken."""


def wait(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.monotonic()


def take_steps(group, device, data, model, training) -> tuple[list[float], float, float]:
    """Losses, seconds of a step after the first ones, and of the first step."""
    fit, _ = fit_and_held_out(data, model, training, 0, device)
    job = Training(model, training, 0, device, group)
    times, losses = [wait(device)], []
    done = 0

    def after_step() -> None:
        nonlocal done
        done += 1
        if done in (1, WARM, STEPS):
            times.append(wait(device))
        if done == STEPS:
            raise Enough

    bar = tqdm(disable=True)
    try:
        while True:
            job.train_epoch(fit, bar, after_step)
            losses += job._losses.tolist()
            job.progress.epoch, job.progress.step = job.progress.epoch + 1, 0
    except Enough:
        losses += job._losses[: job.progress.step].tolist()
    finally:
        captured = job._graph is not None
        job._graph = None  # NCCL ends only after the graphs that hold its operations.
    return losses, (times[3] - times[2]) / (STEPS - WARM), times[1] - times[0], captured


def follow(group, device, *arguments) -> None:
    take_steps(group, device, *arguments)


def main() -> dict:
    config = unet()
    run = run_of(config)
    name = config["datasets"][0]
    preset = run.presets[name]
    data = PREPARED / f"results/data/{name}.safetensors"
    model = section(ModelConfig, preset)
    devices = choose_devices(DEVICE, count, "training.devices")
    rows = []
    for batch in batches:
        training = section(TrainingConfig, preset.training, batch=batch)
        row = {"batch": batch, "devices": count}
        try:
            with together(devices, follow, data, model, training) as group:
                losses, seconds, first, captured = take_steps(group, devices[0], data, model, training)
            row |= {
                "steps_per_second": round(1 / seconds, 3),
                "milliseconds": round(1000 * seconds, 2),
                "images_per_second": round(batch / seconds, 1),
                "first_step_seconds": round(first, 2),
                "captured": captured,
                "loss_first": losses[0],
                "loss_last_50": sum(losses[-50:]) / len(losses[-50:]),
            }
            if devices[0].type == "cuda":
                row["peak_gib"] = round(torch.cuda.max_memory_allocated(devices[0]) / 2**30, 2)
                torch.cuda.reset_peak_memory_stats(devices[0])
            row |= compared(batch, losses, row)
            row["losses"] = losses
        except torch.OutOfMemoryError as error:
            row["error"] = str(error)[:300]
        torch.cuda.empty_cache()
        rows.append(row)
        (OUT / f"train-{count}_{batch}.json").write_text(json.dumps(row) + "\n")
        print(json.dumps({k: v for k, v in row.items() if k != "losses"}), flush=True)
    for row in rows:
        row.pop("losses", None)
    return {"devices": count, "steps": STEPS, "rows": rows}


def compared(batch: int, losses: list[float], row: dict) -> dict:
    """Against one device: speed-up, and how far losses are from its, alone and in means of 25."""
    path = OUT / f"train-1_{batch}.json"
    if count == 1 or not path.exists():
        return {}
    one = json.loads(path.read_text())
    if "losses" not in one:
        return {}
    pairs = list(zip(losses, one["losses"]))

    def mean(values):
        return sum(values) / len(values)

    parts = [pairs[i : i + 25] for i in range(0, len(pairs), 25)]
    means = [abs(mean([a for a, _ in part]) / mean([b for _, b in part]) - 1) for part in parts]
    return {
        "speed_up": round(row["steps_per_second"] / one["steps_per_second"], 3),
        "loss_first_step_relative": abs(losses[0] / one["losses"][0] - 1),
        "loss_largest_relative": max(abs(a / b - 1) for a, b in pairs),
        "loss_means_of_25_largest_relative": max(means),
    }


if __name__ == "__main__":
    count = int(sys.argv[1])
    batches = [int(word) for word in sys.argv[2:]] or ([64, 128] if TINY else [512, 1024])
    report(f"train-{count}", main)
