"""Training, sampling and features by the baseline and by this project, timed."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from flowquant.benchmark.baseline import (
    BaselineTraining,
    baseline_network,
    features_of_one,
    sample_one,
)
from flowquant.benchmark.bench import RUNS, Bench
from flowquant.benchmark.ceiling import E4M3
from flowquant.benchmark.comparison import Comparison, Duration
from flowquant.benchmark.flops import forward_flops, step_flops
from flowquant.benchmark.timing import Timing, measure
from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.extractors import ExtractorName
from flowquant.config.model import ModelConfig
from flowquant.config.sampling import SolverConfig
from flowquant.config.training import TrainingConfig
from flowquant.data.dataset import place
from flowquant.data.pixels import to_uint8
from flowquant.evaluation.classifier import build_classifier, write_classifier
from flowquant.evaluation.extract import load_extractor, run_extractor
from flowquant.models.model import load_network
from flowquant.models.path import initial_noise
from flowquant.runtime.device import has_fp8
from flowquant.sampling.sampler import Sampler
from flowquant.training.flow_matching import Training

# Shares of the budget for the baseline's work, and for this project's.
TRAINING = 0.1
SAMPLING = 0.1
FEATURES = 0.04
# Batches of a training split of random images.
BATCHES = 4
# Images whose features this project extracts at a time.
FEATURES_BATCH = 256


def compare_training(bench: Bench, config: TrainingConfig) -> Comparison:
    """A training step at the preset's batch, or at a smaller one that the budget allows."""
    model, device = bench.model, bench.device
    batch = min(config.batch, bench.affordable(step_flops(model, 1), TRAINING))
    smaller = replace(config, batch=batch)
    split = bench.random_split(BATCHES * batch)
    baseline = BaselineTraining(model, smaller, split, device)
    budget = TRAINING * bench.seconds
    baseline_timing = measure(baseline.step, device, budget)
    del baseline
    training = Training(model, smaller, bench.seed, device)
    split = place(split, device)
    order = torch.arange(len(split), device=split.images.device).view(BATCHES, batch)
    steps = 0

    def step() -> None:
        nonlocal steps
        training.step(split, order[steps % BATCHES], BATCHES)
        steps += 1

    project_timing = measure(step, device, budget)
    part = None if batch == config.batch else f"steps of {batch} of {config.batch} images"

    def whole(timing: Timing) -> Duration:
        flops = step_flops(model, config.batch)
        return Duration(timing.seconds * config.batch / batch, timing, flops, part)

    what, ceiling = f"training, steps of {config.batch}", bench.own_shapes(batch)
    return Comparison(what, 1, "steps/s", whole(baseline_timing), whole(project_timing), ceiling)


def compare_sampling(
    bench: Bench,
    weights: Mapping[str, Tensor],
    solver: SolverConfig,
    total: int,
    most: int,
) -> list[Comparison]:
    """``total`` images: one at a time by the baseline, together by this project, both by Euler.

    Both take as many steps as ``solver`` says; this project computes in its precision, and where a
    GPU has it in FP8, too. On a CPU it samples at most ``most`` images at a time, on a GPU all. The
    weights are on the CPU.
    """
    labels = bench.random_split(total).labels
    flops = total * solver.steps * forward_flops(bench.model, 1, 1)
    baseline = _one_at_a_time(bench, weights, labels, solver.steps, flops)
    found = [_together(bench, weights, solver, labels, most, baseline)]
    if solver.precision != "fp8" and has_fp8(bench.device):
        in_fp8 = replace(solver, precision="fp8")
        found.append(_together(bench, weights, in_fp8, labels, most, baseline))
    return found


def _together(
    bench: Bench,
    weights: Mapping[str, Tensor],
    solver: SolverConfig,
    labels: Tensor,
    most: int,
    baseline: Duration,
) -> Comparison:
    """Many images at a time by this project, beside the baseline."""
    model, device, total = bench.model, bench.device, len(labels)
    pieces = bench.affordable(forward_flops(model, 1, 1), SAMPLING)
    # A few steps of many images say more than many steps of a few.
    images = min(total, max(1, pieces // min(4, solver.steps)))
    steps = min(solver.steps, max(1, pieces // images))
    batch = images if device.type == "cuda" else min(images, most)
    settings = SolverConfig(solver="euler", steps=steps, precision=solver.precision)
    sampler = Sampler(load_network(weights, model), model.flow, settings, device)
    shape = (model.image.channels, model.image.size, model.image.size)

    def together() -> None:
        for start in range(0, images, batch):
            rows = range(start, min(start + batch, images))
            noise = initial_noise(model.flow, bench.seed, rows, shape)
            to_uint8(sampler(noise, labels[rows.start : rows.stop])).cpu()

    timing = measure(together, device, SAMPLING * bench.seconds)
    part = None
    if (images, steps) != (total, solver.steps):
        part = f"{images} of {total} images × {steps} of {solver.steps} steps"
    scale = total / images * solver.steps / steps
    what = f"sampling, {total} images × {solver.steps} steps"
    fp8 = solver.precision == "fp8" and has_fp8(device)
    project = Duration(timing.seconds * scale, timing, baseline.flops, part)
    ceiling = bench.own_shapes(batch, E4M3 if fp8 else None)
    return Comparison(
        f"{what}, FP8" if fp8 else what, total, "images/s", baseline, project, ceiling
    )


def _one_at_a_time(
    bench: Bench, weights: Mapping[str, Tensor], labels: Tensor, steps: int, flops: int
) -> Duration:
    """How long the baseline takes for an image a label, from as many steps as the budget allows."""
    device, flow = bench.device, bench.model.flow
    network = baseline_network(bench.model)
    network.load_state_dict(dict(weights))
    network = network.to(device).eval()
    image, size = bench.model.image, bench.model.image.size
    done = 0

    def one(taken: int) -> None:
        nonlocal done
        noise = torch.randn(1, image.channels, size, size, device=device) * flow.sigma
        label = labels[done % len(labels)][None].to(device)
        to_uint8(sample_one(network, flow, noise, label, steps, taken)).cpu()
        done += 1

    probed = min(2, steps)
    a_step = measure(lambda: one(probed), device, 0, least=1).seconds / probed
    budget = SAMPLING * bench.seconds
    taken = max(1, min(steps, int(budget / RUNS / a_step)))
    timing = measure(lambda: one(taken), device, budget)
    part = (
        f"{min(len(labels), timing.repeats * timing.runs)} of {len(labels)} images × "
        f"{taken} of {steps} steps, one at a time"
    )
    whole = timing.seconds * len(labels) * steps / taken
    return Duration(whole, timing, flops, part)


def compare_features(
    bench: Bench, images: int, architecture: str, extractor: ExtractorName, weights: Path | None
) -> Comparison:
    """Features for FID: one image at a time by the baseline, in batches by this project.

    For want of ``weights``, a classifier of ``architecture`` with random ones extracts them.

    Raises:
        UserError: if the weights are unreadable or there is no such classifier.
    """
    device, budget = bench.device, FEATURES * bench.seconds
    torch.set_float32_matmul_precision("highest")
    split = bench.random_split(images)
    with tempfile.TemporaryDirectory() as folder:
        if extractor == "classifier" or weights is None or not weights.is_file():
            extractor, weights = "classifier", Path(folder) / "random.safetensors"
            _write_random_classifier(weights, architecture, bench.model)
        network = load_extractor(extractor, weights, device)
    alone = measure(lambda: features_of_one(network, split.images[0], device), device, budget)
    count = images
    if device.type == "cpu":
        count = max(1, min(images, int(budget / RUNS / alone.seconds)))
    some = split.images[:count]
    batched = measure(
        lambda: run_extractor(network, some, device, FEATURES_BATCH, verbose=False),
        device,
        budget,
    )
    part = None if count == images else f"{count} of {images} images"
    name = f"{architecture}, random weights" if extractor == "classifier" else extractor
    return Comparison(
        f"features of {images} images, {name}",
        images,
        "images/s",
        Duration(alone.seconds * images, alone, extrapolated_from=f"1 of {images} images"),
        Duration(batched.seconds * images / count, batched, extrapolated_from=part),
    )


def _write_random_classifier(path: Path, architecture: str, model: ModelConfig) -> None:
    config = ArchitectureConfig(name=architecture, image=model.image, classes=model.condition.count)
    write_classifier(path, build_classifier(config), config)
