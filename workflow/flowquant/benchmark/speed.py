"""Training and features by the baseline and by this project, timed."""

import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from flowquant.benchmark.baseline import BaselineTraining, features_of_one
from flowquant.benchmark.bench import RUNS, Bench
from flowquant.benchmark.comparison import Comparison, Duration
from flowquant.benchmark.flops import step_flops
from flowquant.benchmark.timing import Timing, measure
from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.extractors import ExtractorName
from flowquant.config.model import ModelConfig
from flowquant.config.training import TrainingConfig
from flowquant.data.dataset import place
from flowquant.evaluation.classifier import build_classifier, write_classifier
from flowquant.evaluation.features import load_extractor, run_extractor
from flowquant.training.flow_matching import Training

# Shares of the budget for the baseline's work, and for this project's.
TRAINING = 0.1
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
