"""Measure this project and the published way on this machine, and both against its ceilings.

Needs no trained model: weights and images are random, of the preset's shapes.
"""

from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from flowquant.benchmark.bench import CEILING, Bench, machine
from flowquant.benchmark.ceiling import matrix_ceiling
from flowquant.benchmark.comparison import as_page, as_row
from flowquant.benchmark.flops import forward_flops
from flowquant.benchmark.packed import as_rows
from flowquant.benchmark.quantizing import compare_quantizing
from flowquant.benchmark.sampling import compare_sampling
from flowquant.benchmark.speed import compare_features, compare_training
from flowquant.config.custom import CustomConfig
from flowquant.config.extractors import ExtractorName
from flowquant.config.model import ModelConfig
from flowquant.config.sampling import SolverConfig
from flowquant.config.training import TrainingConfig
from flowquant.models import custom
from flowquant.runtime.device import choose_device, compute_dtype, concrete
from flowquant.runtime.files import write_json, write_text
from flowquant.runtime.names import DeviceName


def benchmark(
    output: Path,
    table: Path,
    dataset: str,
    model: ModelConfig,
    training: TrainingConfig,
    solver: SolverConfig,
    images: int,
    batch: int,
    extractor: ExtractorName,
    weights: Path | None = None,
    architecture: str = "resnet18",
    seconds: float = 60.0,
    seed: int = 0,
    device: DeviceName = "auto",
) -> None:
    """Measure training, sampling, quantizing and features beside the baseline and the ceilings.

    Args:
        output: JSON to write.
        table: Markdown to write.
        dataset: Name to write into both.
        model: Network, image, condition and flow.
        training: How a step is trained.
        solver: Its steps and precision are sampled with, by Euler without guidance.
        images: How many are sampled, and how many features are extracted of.
        batch: Images sampled at a time on a CPU.
        extractor: Whose features are extracted, if its weights are at hand.
        weights: The extractor's weights; without them, a classifier's features are.
        architecture: Of that classifier, whose weights are random.
        seconds: About how long to measure; what does not fit is extrapolated, and said to be.
        seed: Of weights, images and noise.
        device: Where to compute.

    Raises:
        UserError: if a GPU is demanded and there is none, there is no such classifier, or a network
            class of the user's own does not do what it is for.
    """
    target = choose_device(device)
    on_cpu = target.type == "cpu"  # of which float32 is measured, whatever is configured
    precision = "float32" if on_cpu else concrete(target, solver.precision)
    solver = replace(solver, precision=precision)
    if isinstance(model.network, CustomConfig):
        custom.try_out(model)
    dtype = compute_dtype(target, "bfloat16")
    with tqdm(total=5, desc="benchmark") as parts:
        matrix = matrix_ceiling(dtype, target, CEILING * seconds)
        bench = Bench(model, target, seed, seconds, matrix)
        parts.update()
        trained = compare_training(bench, training)
        parts.update()
        sampled, evaluated = compare_sampling(bench, solver, images, batch)
        parts.update()
        compared = [trained, *sampled, *compare_quantizing(bench)]
        parts.update()
        compared.append(compare_features(bench, images, architecture, extractor, weights))
        parts.update()
    report = {
        "dataset": dataset,
        **machine(target),
        "cuda": None if on_cpu else torch.version.cuda,
        "seconds": seconds,
        "seed": seed,
        "network": {
            "parameters": sum(tensor.numel() for tensor in bench.weights().values()),
            "flops_an_image": forward_flops(model, 1, 1),
        },
        "precision": {
            "published": "float32",
            "training": "float32" if on_cpu else training.precision,
            "sampling": solver.precision,
        },
        "sizes": {
            "images": images,
            "steps": solver.steps,
            "batch": batch,
            "precision": solver.precision,
            "training_batch": training.batch,
        },
        "ceilings": {
            "matrix": bench.matrix,
            "training": trained.own_shapes,
            "sampling": sampled[0].own_shapes,
            **({"fp8": sampled[1].own_shapes} if len(sampled) > 1 else {}),
        },
        "evaluations": as_rows(evaluated),
        "rows": [as_row(comparison, bench.matrix["tflops"]) for comparison in compared],
    }
    write_json(output, report)
    write_text(table, as_page(report))
