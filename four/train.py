"""The CIFAR-10 network's training on N devices, made-up images.

    train.py data             the dataset file, once
    train.py speed N          steps a second and losses of STEPS steps at each batch; WORK/reference.N
    train.py stage N STEP     flowquant's stage, which at STEP (0: never) asks itself to stop (SIGTERM)
    train.py compare N        what the stage's runs came to
"""
import hashlib, json, os, signal, sys, time
from dataclasses import replace

import torch
from common import DEVICE, OUT, TINY, WORK, load, means, preset, save, section, wait
from tqdm import tqdm

from flowquant.config.model import ModelConfig
from flowquant.config.training import TrainingConfig
from flowquant.data.dataset import Part, Split, write_dataset
from flowquant.models.model import read_model
from flowquant.runtime.device import choose_devices
from flowquant.stages.train import fit_and_held_out
from flowquant.stages.train import train as stage
from flowquant.training.distributed import together
from flowquant.training.flow_matching import Training

STEPS = int(os.environ.get("STEPS", "20" if TINY else "200"))
WARM = STEPS // 4
BATCHES = (32, 64) if TINY else (512, 1024)
ROWS, HELD = BATCHES[0] * 20, BATCHES[0]
DATA = WORK / "made-up.safetensors"


def model_of(dropout=None):
    small = {"width": 16, "heads": 2, "layers": 1, "feedforward": 32} if TINY else {}
    if dropout is not None:
        small["dropout"] = dropout
    return section(ModelConfig, preset("cifar10", **small))


def training_of(batch, epochs=1):
    own = preset("cifar10").training
    return section(TrainingConfig, own, batch=batch, epochs=epochs, warmup_epochs=0.1 * epochs, validation=HELD)


def data():
    """Images that a network can learn: each class two waves of its own, and noise."""
    g = torch.Generator().manual_seed(0)
    n, grid = ROWS + HELD, torch.linspace(0, 6.2832, 32)
    labels = torch.randint(10, (n,), generator=g)
    waves = torch.rand(10, 2, 3, generator=g) * 4
    phases = torch.rand(n, 3, generator=g) * 6.2832
    w = waves[labels]
    x = torch.sin(w[:, 0, :, None] * grid + phases[..., None])[:, :, None, :]
    y = torch.sin(w[:, 1, :, None] * grid + phases[..., None])[:, :, :, None]
    images = (x * y * 0.4 + 0.5 + 0.05 * torch.randn(n, 3, 32, 32, generator=g)).clamp(0, 1)
    split = Split((images * 255).to(torch.uint8), labels)
    few = Split(split.images[:64].clone(), labels[:64].clone())
    own = preset("cifar10")
    WORK.mkdir(parents=True, exist_ok=True)
    write_dataset(DATA, split, few, own.image, own.condition, {"dataset": "made up"})


def plan():
    """What is measured, in the same order in all processes: name, dropout, batch."""
    default = model_of().network.dropout
    first = [(f"batch {BATCHES[0]}, no dropout", 0.0, BATCHES[0])] if default else []
    return [*first, *((f"batch {b}", default, b) for b in BATCHES)]


def digest(weights):
    h = hashlib.sha256()
    for name in sorted(weights):
        h.update(name.encode() + weights[name].detach().float().cpu().contiguous().numpy().tobytes())
    return h.hexdigest()[:16]


def measure(group, device, report=None):
    for name, dropout, batch in plan():
        model, config = model_of(dropout), training_of(batch)
        fit, _ = fit_and_held_out(DATA, model, config, 0, device)
        rows = fit.rows.repeat(-(-STEPS * batch // len(fit)))[: STEPS * batch]
        job = Training(model, config, 0, device, group)
        times, done = [wait(device)], 0

        def after():
            nonlocal done
            done += 1
            if done in (1, WARM, STEPS):
                times.append(wait(device))

        job.train_epoch(Part(fit.split, rows), tqdm(disable=True), after)
        losses, captured = job._losses.tolist(), job._graph is not None
        job._graph = None
        if report:
            report(name, batch, losses, captured, (times[3] - times[2]) / (STEPS - WARM), times[1] - times[0])
        del job
        if device.type == "cuda":
            torch.cuda.empty_cache()
    if group.size > 1:  # what the stage's run is to come to
        model, config = model_of(), training_of(BATCHES[0], 3)
        fit, held = fit_and_held_out(DATA, model, config, 0, device)
        job = Training(model, config, 0, device, group)
        job.run(fit, held, tqdm(disable=True), lambda: None)
        if report:
            (WORK / f"reference.{group.size}").write_text(digest(job.best))


def follow(group, device):
    measure(group, device)


def speed(count):
    devices = choose_devices(DEVICE, count, "training.devices")
    started = time.monotonic()
    found = {"devices": count, "steps": STEPS, "network": "cifar10", "rows": {}}
    one = load("b1") if count > 1 else None

    def report(name, batch, losses, captured, seconds, first):
        row = {
            "batch": batch, "steps_per_second": round(1 / seconds, 3), "images_per_second": round(batch / seconds),
            "first_step_seconds": round(first, 2), "captured": captured,
            "loss_means_of_20": [round(m, 5) for m in means(losses, 20)], "losses": losses,
        }
        if devices[0].type == "cuda":
            row["peak_gib"] = round(torch.cuda.max_memory_allocated(devices[0]) / 2**30, 2)
            torch.cuda.reset_peak_memory_stats(devices[0])
        if one and (other := one["rows"].get(name)):
            pairs = list(zip(losses, other["losses"]))
            row |= {
                "speed_up": round(row["steps_per_second"] / other["steps_per_second"], 3),
                "first_loss_relative": abs(losses[0] / other["losses"][0] - 1),
                "largest_relative_of_a_step": max(abs(a / b - 1) for a, b in pairs),
                "largest_relative_of_means_of_20": max(abs(a / b - 1) for a, b in zip(means(losses, 20), means(other["losses"], 20))),
            }
        found["rows"][name] = row
        found["seconds"] = round(time.monotonic() - started, 1)
        save(f"b{count}", found)
        print(f"b: {count} device(s), {name}: {row['steps_per_second']} steps/s, loss {losses[0]:.4f} -> {row['loss_means_of_20'][-1]}"
              + (f", x{row['speed_up']}, means of 20 within {row['largest_relative_of_means_of_20']:.2e}" if "speed_up" in row else ""), flush=True)

    with together(devices, follow) as group:
        measure(group, devices[0], report)


def run_stage(count, kill_at):
    place = WORK / os.environ.get("PLACE", "killed")
    place.mkdir(parents=True, exist_ok=True)
    if kill_at:
        original, taken = Training.step, []

        def step(self, *arguments):
            taken.append(1)
            if len(taken) == kill_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(self, *arguments)

        Training.step = step
    stage(
        data=DATA, output=place / "model.safetensors", report=place / "model.json", curve=place / "curve.jsonl",
        checkpoint=place / "checkpoint.pt", dataset="made-up", model=model_of(), training=training_of(BATCHES[0], 3),
        device=DEVICE, devices=count,
    )


def compare(count):
    found = {"devices": count, "batch": BATCHES[0], "steps": 60, "killed_at_step": int(os.environ["KILL_AT"]),
             "codes": os.environ["CODES"], "resumed": os.environ.get("RESUMED", "")}
    digests = {}
    if (path := WORK / f"reference.{count}").exists():
        digests["uninterrupted, in the process of b"] = path.read_text()
    for place in ("whole", "killed"):
        if (path := WORK / place / "model.safetensors").exists():
            digests[place] = digest(read_model(path)[0])
    found["digests"] = digests
    others = [v for k, v in digests.items() if k != "killed"]
    found["same_weights"] = bool(others) and set(others) == {digests.get("killed")}
    for place in ("whole", "killed"):
        if (path := WORK / place / "curve.jsonl").exists():
            found[f"curve_{place}"] = [json.loads(line) for line in path.read_text().splitlines()]
    save("b-killed", found)
    print(f"b: killed after {found['killed_at_step']} of 60 steps on {count} devices (codes {found['codes']}), resumed: {found['resumed']!r}; same weights {found['same_weights']} {digests}", flush=True)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    {"data": data, "speed": lambda: speed(int(rest[0])), "stage": lambda: run_stage(int(rest[0]), int(rest[1])),
     "compare": lambda: compare(int(rest[0]))}[what]()
