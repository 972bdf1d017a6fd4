"""The same work the published way and this project's, timed: training, sampling, quantizing, …"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowquant.benchmark.baseline import (
    UsualTraining,
    look_at_one,
    quantize_all_by_ranks,
    sample_one,
    usual_network,
)
from flowquant.benchmark.ceiling import shapes_ceiling
from flowquant.benchmark.comparison import Comparison, Way
from flowquant.benchmark.flops import encoder_products, forward_flops, step_flops
from flowquant.benchmark.timing import Timing, measure
from flowquant.config.evaluation import ExtractorName
from flowquant.config.method import MethodConfig
from flowquant.config.model import ModelConfig
from flowquant.config.sampling import SolverConfig
from flowquant.config.training import TrainingConfig
from flowquant.data.dataset import Split, place
from flowquant.data.pixels import to_uint8
from flowquant.evaluation.features import load_extractor, run_extractor
from flowquant.models.model import load_network
from flowquant.models.path import initial_noise
from flowquant.quantization.apply import quantize_weights
from flowquant.runtime import random
from flowquant.runtime.names import Precision
from flowquant.sampling.sampler import Sampler
from flowquant.training.flow_matching import Training

# Shares of the budget. On a CPU, what is timed is chosen so that it fits in this many times: to
# warm up, and for a median of three.
CEILING, TRAINING, SAMPLING, QUANTIZING, LOOKING = 0.04, 0.1, 0.1, 0.025, 0.04
RUNS = 4
# Networks take longer than their products by themselves.
SLACK = 2
# Batches of a training split of random images.
BATCHES = 4
LOOK_BATCH = 256


@dataclass(frozen=True)
class Sizes:
    """How much is sampled and looked at: images, at most ``batch`` at a time on a CPU, by Euler."""

    images: int
    steps: int
    batch: int
    precision: Precision


@dataclass(frozen=True)
class Bench:
    """What all measurements need: the model, where, in how many seconds, and how fast it can be."""

    model: ModelConfig
    device: torch.device
    seed: int
    seconds: float
    matrix: dict[str, Any]

    def affordable(self, flops: int, share: float) -> int:
        """How many times some work fits into one run.

        On a CPU within a share of the budget, on a GPU in half of it, so that the work is whole.
        """
        on_cpu = self.device.type == "cpu"
        run = self.seconds * (share / RUNS if on_cpu else 0.5)
        return max(1, int(run * self.matrix["tflops"] * 1e12 / SLACK / flops))

    def own_shapes(self, images: int) -> dict[str, Any]:
        """The ceiling of the network's products in a batch."""
        dtype, budget = getattr(torch, self.matrix["dtype"]), CEILING * self.seconds
        return {"images": images} | shapes_ceiling(
            encoder_products(self.model, images), dtype, self.device, budget
        )

    def random_split(self, count: int) -> Split:
        """Images and labels of the preset's shapes, on the CPU."""
        draws = random.generator(self.seed, "benchmark images")
        image, condition = self.model.image, self.model.condition
        shape = (count, image.channels, image.size, image.size)
        images = torch.randint(256, shape, generator=draws, dtype=torch.uint8)
        if condition.kind == "attributes":
            shape_of = (count, condition.count)
            return Split(images, torch.randint(2, shape_of, generator=draws, dtype=torch.uint8))
        return Split(images, torch.randint(condition.count, (count,), generator=draws))


def training_step(bench: Bench, config: TrainingConfig) -> tuple[Comparison, dict[str, Any]]:
    """A training step at the preset's batch, or at a smaller one that the budget allows."""
    model, device = bench.model, bench.device
    batch = min(config.batch, bench.affordable(step_flops(model, 1), TRAINING))
    smaller = replace(config, batch=batch)
    split = bench.random_split(BATCHES * batch)
    usual = UsualTraining(model, smaller, split, device)
    budget = TRAINING * bench.seconds
    published = measure(usual.step, device, budget)
    del usual
    training = Training(model, smaller, bench.seed, device)
    split = place(split, device)
    order = torch.arange(len(split), device=split.images.device).view(BATCHES, batch)
    steps = 0

    def step() -> None:
        nonlocal steps
        training.step(split, order[steps % BATCHES], BATCHES)
        steps += 1

    project = measure(step, device, budget)
    part = None if batch == config.batch else f"steps of {batch} of {config.batch} images"

    def whole(timing: Timing) -> Way:
        flops = step_flops(model, config.batch)
        return Way(timing.seconds * config.batch / batch, timing, flops, part)

    ceiling = bench.own_shapes(batch)
    what = f"training, steps of {config.batch}"
    compared = Comparison(what, 1, "steps/s", whole(published), whole(project), ceiling["tflops"])
    return compared, ceiling


def sampling(
    bench: Bench, weights: Mapping[str, Tensor], sizes: Sizes
) -> tuple[Comparison, dict[str, Any]]:
    """All images: one at a time the published way, together this project's."""
    model, device = bench.model, bench.device
    labels = bench.random_split(sizes.images).labels
    flops = sizes.images * sizes.steps * forward_flops(model, 1, 1)
    published = _one_at_a_time(bench, weights, labels, sizes, flops)
    pieces = bench.affordable(forward_flops(model, 1, 1), SAMPLING)
    # A few steps of many images tell more than the reverse.
    images = min(sizes.images, max(1, pieces // min(4, sizes.steps)))
    steps = min(sizes.steps, max(1, pieces // images))
    batch = images if device.type == "cuda" else min(images, sizes.batch)
    sampler = Sampler(
        load_network(weights, model),
        model.flow,
        SolverConfig("euler", steps, precision=sizes.precision),
        device,
    )
    shape = (model.image.channels, model.image.size, model.image.size)

    def together() -> None:
        for start in range(0, images, batch):
            rows = range(start, min(start + batch, images))
            noise = initial_noise(model.flow, bench.seed, rows, shape)
            to_uint8(sampler(noise, labels[rows.start : rows.stop])).cpu()

    timing = measure(together, device, SAMPLING * bench.seconds)
    part = None
    if (images, steps) != (sizes.images, sizes.steps):
        part = f"{images} of {sizes.images} images × {steps} of {sizes.steps} steps"
    scale = sizes.images / images * sizes.steps / steps
    ceiling = bench.own_shapes(batch)
    what = f"sampling, {sizes.images} images × {sizes.steps} steps"
    project = Way(timing.seconds * scale, timing, flops, part)
    return (
        Comparison(what, sizes.images, "images/s", published, project, ceiling["tflops"]),
        ceiling,
    )


def _one_at_a_time(
    bench: Bench, weights: Mapping[str, Tensor], labels: Tensor, sizes: Sizes, flops: int
) -> Way:
    device, flow = bench.device, bench.model.flow
    network = usual_network(bench.model)
    network.load_state_dict(dict(weights))
    network = network.to(device).eval()
    image, size = bench.model.image, bench.model.image.size
    done = 0

    def one(taken: int) -> None:
        nonlocal done
        noise = torch.randn(1, image.channels, size, size, device=device) * flow.sigma
        label = labels[done % len(labels)][None].to(device)
        to_uint8(sample_one(network, flow, noise, label, sizes.steps, taken)).cpu()
        done += 1

    probed = min(2, sizes.steps)
    a_step = measure(lambda: one(probed), device, 0, least=1).seconds / probed
    budget = SAMPLING * bench.seconds
    taken = max(1, min(sizes.steps, int(budget / RUNS / a_step)))
    timing = measure(lambda: one(taken), device, budget)
    part = (
        f"{min(sizes.images, timing.repeats * timing.runs)} of {sizes.images} images × "
        f"{taken} of {sizes.steps} steps, one at a time"
    )
    whole = timing.seconds * sizes.images * sizes.steps / taken
    return Way(whole, timing, flops, part)


def quantizing(bench: Bench, weights: Mapping[str, Tensor]) -> list[Comparison]:
    """The whole model, each tensor by itself: equal mass by NumPy, and this project's levels."""
    moved = {name: tensor.to(bench.device) for name, tensor in weights.items()}
    published = {
        bits: _over_layers(bench, weights, partial(quantize_all_by_ranks, bits=bits), "cpu")
        for bits in (2, 8, 16)
    }
    compared = []
    for levels, widths in (("equal_mass", (2, 8, 16)), ("lloyd", (2, 8))):
        method = MethodConfig(levels, "tensor", "all", (), 5)

        def work(part: Mapping[str, Tensor], bits: int, method: MethodConfig = method) -> None:
            quantize_weights(part, method, dict.fromkeys(part, bits))

        name = "equal mass" if levels == "equal_mass" else "k-means (published: equal mass)"
        for bits in widths:
            project = _over_layers(bench, moved, partial(work, bits=bits), bench.device.type)
            what = f"quantizing, {bits} bits, {name}"
            compared.append(Comparison(what, 1, "s", published[bits], project))
    return compared


def _over_layers(
    bench: Bench,
    weights: Mapping[str, Tensor],
    work: Callable[[Mapping[str, Tensor]], object],
    device_type: str,
) -> Way:
    """Time the whole model, or as many of its layers as the budget allows."""
    device, budget = torch.device(device_type), QUANTIZING * bench.seconds
    layers = bench.model.network.layers

    def first(count: int) -> dict[str, Tensor]:
        prefixes = tuple(f"transformer.layers.{index}." for index in range(count))
        return {name: tensor for name, tensor in weights.items() if name.startswith(prefixes)}

    one_layer = measure(lambda: work(first(1)), device, 0, least=1)
    count = min(layers, int(budget / RUNS / one_layer.seconds))
    # A GPU takes the whole at once, not layer by layer.
    if count == layers or device.type == "cuda":
        timing = measure(lambda: work(weights), device, budget)
        return Way(timing.seconds, timing)
    part = first(max(1, count))
    timing = one_layer if count <= 1 else measure(lambda: work(part), device, budget)
    total, some = (sum(t.numel() for t in tensors.values()) for tensors in (weights, part))
    said = f"{max(1, count)} of {layers} encoder layers, by their values"
    return Way(timing.seconds * total / some, timing, extrapolated_from=said)


def looking(
    bench: Bench, images: int, architecture: str, extractor: ExtractorName, weights: Path | None
) -> Comparison:
    """Features for FID: one image at a time, and in batches."""
    device, budget = bench.device, LOOKING * bench.seconds
    torch.set_float32_matmul_precision("highest")
    split = bench.random_split(images)
    with tempfile.TemporaryDirectory() as folder:
        if extractor == "classifier" or weights is None or not weights.is_file():
            extractor, weights = "classifier", Path(folder) / "random.safetensors"
            _write_random_classifier(weights, architecture, bench)
        network = load_extractor(extractor, weights, device)
    alone = measure(lambda: look_at_one(network, split.images[0], device), device, budget)
    count = images
    if device.type == "cpu":
        count = max(1, min(images, int(budget / RUNS / alone.seconds)))
    some = split.images[:count]
    batched = measure(
        lambda: run_extractor(network, some, extractor, device, LOOK_BATCH, verbose=False),
        device,
        budget,
    )
    part = None if count == images else f"{count} of {images} images"
    name = "Inception" if extractor == "inception-v3-compat" else f"{architecture}, random weights"
    return Comparison(
        f"features of {images} images, {name}",
        images,
        "images/s",
        Way(alone.seconds * images, alone, None, f"1 of {images} images"),
        Way(batched.seconds * images / count, batched, None, part),
    )


def _write_random_classifier(path: Path, architecture: str, bench: Bench) -> None:
    from flowquant.config.classifier import ArchitectureConfig
    from flowquant.evaluation.classifier import build_classifier, write_classifier

    image, classes = bench.model.image, bench.model.condition.count
    config = ArchitectureConfig(architecture, image, classes)
    write_classifier(path, build_classifier(config), config)
