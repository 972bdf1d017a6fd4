"""Measure the published way against this project on this machine, and both against its ceilings.

Needs no trained model: weights and images are random, of the preset's shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from flowquant.benchmark.ceiling import matrix_ceiling
from flowquant.benchmark.comparison import as_markdown, as_row
from flowquant.benchmark.flops import forward_flops, tokens
from flowquant.benchmark.speed import (
    CEILING,
    Bench,
    Sizes,
    looking,
    quantizing,
    sampling,
    training_step,
)
from flowquant.config.evaluation import ExtractorName
from flowquant.config.model import ModelConfig
from flowquant.config.training import TrainingConfig
from flowquant.models.model import build_network
from flowquant.runtime import random
from flowquant.runtime.device import choose_device, compute_dtype
from flowquant.runtime.files import atomic, write_json
from flowquant.runtime.names import DeviceName, Precision


def benchmark(
    output: Path,
    table: Path,
    dataset: str,
    model: ModelConfig,
    training: TrainingConfig,
    sizes: Sizes,
    extractor: ExtractorName,
    weights: Path | None = None,
    architecture: str = "resnet18",
    seconds: float = 60.0,
    seed: int = 0,
    device: DeviceName = "auto",
) -> None:
    """Measure training, sampling, quantizing and looking, both ways, and the device's ceilings.

    Args:
        output: JSON to write.
        table: Markdown to write.
        dataset: Name to write into both.
        model: Network, image, condition and flow.
        training: How a step is trained.
        sizes: How much is sampled and looked at.
        extractor: Which network looks at images, if its weights are at hand.
        weights: The extractor's weights; where there are none, a classifier looks.
        architecture: Of that classifier, whose weights are random.
        seconds: About how long to measure; what does not fit is extrapolated, and said to be.
        seed: Of weights, images and noise.
        device: Where to compute.

    Raises:
        UserError: if a GPU is demanded and there is none, or there is no such classifier.
    """
    where = choose_device(device)
    torch.manual_seed(random.key(seed, "benchmark weights"))
    values = {name: tensor.detach() for name, tensor in build_network(model).state_dict().items()}
    parts = tqdm(total=5, desc="benchmark")
    dtype = compute_dtype(where, "bfloat16")
    bench = Bench(model, where, seed, seconds, matrix_ceiling(dtype, where, CEILING * seconds))
    parts.update()
    trained, training_shapes = training_step(bench, training)
    parts.update()
    sampled, sampling_shapes = sampling(bench, values, sizes)
    parts.update()
    compared = [trained, sampled, *quantizing(bench, values)]
    parts.update()
    compared.append(looking(bench, sizes.images, architecture, extractor, weights))
    parts.update()
    parts.close()
    report = {
        "dataset": dataset,
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "cuda": torch.version.cuda if where.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "seed": seed,
        "network": {
            "parameters": sum(tensor.numel() for tensor in values.values()),
            "tokens": tokens(model),
            "flops_an_image": forward_flops(model, 1, 1),
        },
        "precision": {"published": "float32", **_precisions(where, training, sizes)},
        "sizes": asdict(sizes) | {"training_batch": training.batch},
        "ceilings": {
            "matrix": bench.matrix,
            "training": training_shapes,
            "sampling": sampling_shapes,
        },
        "rows": [as_row(comparison, bench.matrix["tflops"]) for comparison in compared],
    }
    write_json(output, report)
    with atomic(table) as temporary:
        temporary.write_text(described(report), encoding="utf-8")


def _precisions(
    device: torch.device, training: TrainingConfig, sizes: Sizes
) -> dict[str, Precision]:
    asked = {"training": training.precision, "sampling": sizes.precision}
    if device.type == "cpu":
        return dict.fromkeys(asked, "float32")
    return asked


def described(report: Mapping[str, Any]) -> str:
    """The report for people: what was measured where, the table, the ceilings."""
    precision, ceilings = report["precision"], report["ceilings"]
    matrix, square = ceilings["matrix"], ceilings["matrix"]["products"][0]["rows"]
    return "\n".join(
        [
            f"# {report['dataset']}: the published way and this project, on one device",
            "",
            f"{report['device']}, torch {report['torch']}, {report['threads']} CPU threads; "
            f"{report['network']['parameters']:,} parameters, random weights and images. "
            f"Published way: eager {precision['published']}; this project: "
            f"training {precision['training']}, sampling {precision['sampling']}.",
            "",
            as_markdown(report["rows"]),
            f"- TFLOP/s and shares are this project's, of matrix products "
            f"({report['network']['flops_an_image'] / 1e9:.3g} GFLOP an image forward, backward "
            "twice that); those of the published way are in the JSON",
            f"- matrix ceiling: {matrix['tflops']:.3g} TFLOP/s, {matrix['dtype']} "
            f"{square}×{square}×{square}, in the same run",
            *(
                f"- own shapes, {name}: {ceilings[name]['tflops']:.3g} TFLOP/s, the encoder's "
                f"forward products for {ceilings[name]['images']} images by themselves"
                for name in ("training", "sampling")
            ),
            "",
        ]
    )
