"""Images from several devices at once: each samples a range of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowquant.config.model import ModelConfig
from flowquant.config.sampling import SolverConfig
from flowquant.quantization.variant import load_variant
from flowquant.runtime.device import make_current
from flowquant.runtime.processes import helpers
from flowquant.sampling.generate import generate


def generate_sharded(
    network: nn.Module,
    config: ModelConfig,
    labels: Tensor,
    solver: SolverConfig,
    seed: int,
    batch: int,
    devices: Sequence[torch.device],
    model: Path,
    packed: bool,
) -> tuple[Tensor, float]:
    """As `generate`, on several devices: on the first here, on each other one in a helper.

    Image i depends on the seed, i and its label: ``devices`` change nothing but rounding. Helpers
    load the network from ``model``, the file it came from.
    """
    own, *others = labels.tensor_split(min(len(devices), len(labels)))
    arguments, first = [], len(own)
    for shard, device in zip(others, devices[1:], strict=False):
        arguments.append((model, packed, shard.numpy(), solver, seed, batch, device, first))
        first += len(shard)
    with helpers(_generate_shard, arguments) as results:
        shards = [generate(network, config, own, solver, seed, batch, devices[0])]
        shards += [(torch.from_numpy(images), evaluations) for images, evaluations in results()]
    evaluations = sum(len(images) * count for images, count in shards) / len(labels)
    return torch.cat([images for images, _ in shards]), evaluations


def _generate_shard(
    model: Path,
    packed: bool,
    labels: Any,
    solver: SolverConfig,
    seed: int,
    batch: int,
    device: torch.device,
    first: int,
) -> tuple[Any, float]:
    """`generate` in a helper process: labels and images are NumPy arrays there."""
    make_current(device)
    network, config = load_variant(model, packed)
    wanted = torch.from_numpy(labels)
    images, evaluations = generate(network, config, wanted, solver, seed, batch, device, first)
    return images.numpy(), evaluations
