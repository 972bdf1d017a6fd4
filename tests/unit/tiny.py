"""A tiny model and dataset that tests of stages share."""

from pathlib import Path

import torch

from flowquant.dataset import Split, write_dataset
from flowquant.flow import FlowConfig
from flowquant.model import ModelConfig, write_model
from flowquant.network import ConditionConfig, ImageConfig, NetworkConfig

CONFIG = ModelConfig(
    ImageConfig(1, 8),
    ConditionConfig("class", 10),
    NetworkConfig("transformer", 2, 32, 4, 2, 64, "gelu", 0.0, "fourier", "embedding"),
    FlowConfig("forward", 0.5),
)


def tiny_model(folder: Path, config: ModelConfig = CONFIG) -> Path:
    """A model file with random weights."""
    torch.manual_seed(0)
    path = folder / "model.safetensors"
    write_model(path, config.build().state_dict(), config, {})
    return path


def tiny_dataset(folder: Path) -> Path:
    """A dataset file with random images."""
    path = folder / "data.safetensors"
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (64, 1, 8, 8), generator=draws, dtype=torch.uint8)
    train, test = (Split(images.clone(), torch.arange(64) % 10) for _ in range(2))
    write_dataset(path, train, test, CONFIG.image, CONFIG.condition, {})
    return path
