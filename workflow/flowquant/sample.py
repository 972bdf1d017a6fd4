"""Sample images from a variant of a model: all at once, from noise keyed by (seed, index)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from flowquant.cli import run
from flowquant.device import DeviceName, choose_device
from flowquant.flow import FlowConfig, initial_noise, to_uint8, velocity
from flowquant.model import ModelConfig
from flowquant.network import ConditionConfig, FlowTransformer
from flowquant.samples import Origin, write_grid, write_samples
from flowquant.solver import euler
from flowquant.variant import load_variant

GRID_COLUMNS = 10


@dataclass(frozen=True)
class SamplingConfig:
    """How images are sampled (the keys under ``sampling`` in a dataset's preset)."""

    solver: Literal["euler"]
    steps: int
    per_class: int


def asked_for(condition: ConditionConfig, per_class: int) -> Tensor:
    """What to sample: ``per_class`` of each class, class by class, int64 [N].

    With attributes: ten times ``per_class`` images with all attributes 0, uint8 [N, A] (the
    reference's 1,000 CelebA samples for 100 a class).
    """
    if condition.kind == "attributes":
        return torch.zeros(10 * per_class, condition.count, dtype=torch.uint8)
    return torch.arange(condition.count).repeat_interleave(per_class)


def integrate(
    network: FlowTransformer, flow: FlowConfig, noise: Tensor, condition: Tensor, steps: int
) -> Tensor:
    """Follow the flow from noise [B, C, H, W] to images in about −1…1, [B, C, H, W]."""
    return euler(lambda x, t: velocity(network, flow, x, t, condition), noise, steps)


def generate(
    network: FlowTransformer,
    config: ModelConfig,
    labels: Tensor,
    steps: int,
    seed: int,
    batch: int,
    device: torch.device,
) -> Tensor:
    """Images uint8 [N, C, H, W] for labels [N] or attributes [N, A].

    Image i depends on the seed, i and its label: ``batch`` changes nothing but rounding.
    """
    shape = (config.image.channels, config.image.size, config.image.size)
    network = network.to(device)
    images = []
    for start in tqdm(range(0, len(labels), batch), desc="sampling", unit="batch"):
        rows = range(start, min(start + batch, len(labels)))
        noise = initial_noise(config.flow, seed, rows, shape).to(device)
        condition = labels[rows.start : rows.stop].to(device)
        images.append(to_uint8(integrate(network, config.flow, noise, condition, steps)).cpu())
    return torch.cat(images)


def sample(
    model: Path,
    output: Path,
    grid: Path,
    dataset: str,
    variant: str,
    seed: int,
    sampling: SamplingConfig,
    batch: int = 256,
    packed: bool = False,
    device: DeviceName = "auto",
) -> None:
    """Sample images from a model file or a quantized model file.

    Args:
        model: The variant's weights.
        output: Samples file to write: uint8 images and the labels asked for.
        grid: PNG to write: the first ten of each class, a row a class.
        dataset: Name to write into the samples file.
        variant: Name to write into the samples file.
        seed: Of the noise.
        sampling: Solver, steps and number.
        batch: Images integrated at a time.
        packed: Keep quantized matrices packed in memory and expand them as needed.
        device: Where to compute.

    Raises:
        UserError: if the weights cannot be read.
    """
    network, config = load_variant(model, packed)
    labels = asked_for(config.condition, sampling.per_class)
    where = choose_device(device)
    images = generate(network, config, labels, sampling.steps, seed, batch, where)
    write_samples(output, images, labels, Origin(dataset, variant, seed))
    classes = 10 if config.condition.kind == "attributes" else config.condition.count
    first = images.view(classes, -1, *images.shape[1:])[:, :GRID_COLUMNS]
    write_grid(grid, first.flatten(0, 1), columns=first.shape[1], enlarge=2)


if __name__ == "__main__":
    run(sample)
