"""Sample images from a variant of a model: all at once, from noise keyed by (seed, index)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from flowquant.cli import run
from flowquant.dataset import read_dataset
from flowquant.device import DeviceName, Precision, choose_device
from flowquant.errors import UserError
from flowquant.flow import initial_noise, to_uint8
from flowquant.model import ModelConfig
from flowquant.network import ConditionConfig
from flowquant.sampler import Sampler, SolverConfig
from flowquant.samples import Origin, write_grid, write_samples
from flowquant.solver import SolverName
from flowquant.variant import load_variant

GRID_COLUMNS = 10
GRID_ROWS = 100


@dataclass(frozen=True)
class SamplingConfig:
    """How images are sampled (the keys under ``sampling`` in a dataset's preset)."""

    solver: SolverName
    steps: int
    per_class: int
    condition: Literal["zeros", "test"] = "zeros"
    guidance: float = 1.0
    precision: Precision = "bfloat16"


def asked_for(condition: ConditionConfig, per_class: int) -> Tensor:
    """What to sample: ``per_class`` of each class, class by class, int64 [N].

    With attributes: ten times ``per_class`` images with all attributes 0, uint8 [N, A] (the
    reference's 1,000 CelebA samples for 100 a class).
    """
    if condition.kind == "attributes":
        return torch.zeros(10 * per_class, condition.count, dtype=torch.uint8)
    return torch.arange(condition.count).repeat_interleave(per_class)


def test_attributes(data: Path | None, count: int) -> Tensor:
    """The attributes of the first ``count`` test images, uint8 [count, A].

    Raises:
        UserError: if no dataset file is given, or it has too few test images.
    """
    found = torch.empty(0) if data is None else read_dataset(data)[1].labels
    if len(found) < count:
        raise UserError(
            data or "--data",
            found=f"{len(found)} test images to take attributes from",
            expected=f"at least {count}, ten times `sampling.per_class`",
            remedy="Sample fewer, or set `sampling.condition: zeros`.",
        )
    return found[:count]


def generate(
    network: nn.Module,
    config: ModelConfig,
    labels: Tensor,
    solver: SolverConfig,
    seed: int,
    batch: int,
    device: torch.device,
) -> Tensor:
    """Images uint8 [N, C, H, W] for labels [N] or attributes [N, A].

    Image i depends on the seed, i and its label: ``batch`` changes nothing but rounding. It is
    halved when the GPU's memory does not hold it.

    Raises:
        UserError: if the memory does not hold one image.
    """
    shape = (config.image.channels, config.image.size, config.image.size)
    sampler = Sampler(network, config.flow, solver, device)
    images: list[Tensor] = []
    done, batch = 0, min(batch, len(labels))
    with tqdm(total=len(labels), desc="sampling", unit="image") as bar:
        while done < len(labels):
            # On a GPU batches are of one size, so that one captured step serves all: the last is
            # filled up with images that are thrown away.
            wanted = labels[done : done + batch]
            spare = batch - len(wanted) if device.type == "cuda" else 0
            filled = torch.cat([wanted, wanted[:1].expand(spare, *wanted.shape[1:])])
            rows = range(done, done + len(filled))
            try:
                found = sampler(initial_noise(config.flow, seed, rows, shape), filled)
            except torch.OutOfMemoryError as error:
                if batch == 1:
                    raise UserError(
                        "GPU memory",
                        found=f"too little for one image ({error})",
                        expected="room for the network and its activations",
                        remedy="Free the GPU, or set `device: cpu`.",
                    ) from error
                batch = -(-batch // 2)
                bar.write(f"out of memory: going on with batches of {batch}")
                torch.cuda.empty_cache()
                continue
            images.append(to_uint8(found[: len(wanted)]).cpu())
            done += len(wanted)
            bar.update(len(wanted))
    return torch.cat(images)


def sample(
    model: Path,
    output: Path,
    grid: Path,
    dataset: str,
    variant: str,
    seed: int,
    sampling: SamplingConfig,
    data: Path | None = None,
    batch: int = 256,
    packed: bool = False,
    device: DeviceName = "auto",
) -> None:
    """Sample images from a model file or a quantized model file.

    Args:
        model: The variant's weights.
        output: Samples file to write: uint8 images and the labels asked for.
        grid: PNG to write: the first ten of each class, a row a class, for a hundred
            classes at most.
        dataset: Name to write into the samples file.
        variant: Name to write into the samples file.
        seed: Of the noise.
        sampling: Solver, steps, number, condition and guidance.
        data: Dataset file, for the attributes of its test images.
        batch: Images integrated at a time.
        packed: Keep quantized matrices packed in memory and expand them as needed.
        device: Where to compute.

    Raises:
        UserError: if the weights cannot be read, or there are too few test images.
    """
    network, config = load_variant(model, packed)
    labels = asked_for(config.condition, sampling.per_class)
    if sampling.condition == "test":
        labels = test_attributes(data, len(labels))
    where = choose_device(device)
    solver = SolverConfig(sampling.solver, sampling.steps, sampling.guidance, sampling.precision)
    images = generate(network, config, labels, solver, seed, batch, where)
    write_samples(output, images, labels, Origin(dataset, variant, seed))
    classes = 10 if config.condition.kind == "attributes" else config.condition.count
    rows = torch.linspace(0, classes - 1, min(classes, GRID_ROWS)).round().long()
    first = images.view(classes, -1, *images.shape[1:])[rows, :GRID_COLUMNS]
    write_grid(
        grid, first.flatten(0, 1), columns=first.shape[1], enlarge=max(2, 48 // config.image.size)
    )


if __name__ == "__main__":
    run(sample)
