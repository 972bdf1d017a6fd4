"""A tiny model, dataset and training that tests share."""

from __future__ import annotations

from pathlib import Path

import torch

from flowquant.config.custom import CustomConfig
from flowquant.config.model import (
    ConditionConfig,
    FlowConfig,
    ImageConfig,
    ModelConfig,
)
from flowquant.config.network import DitConfig, Network, TransformerConfig, UnetConfig
from flowquant.config.training import TrainingConfig
from flowquant.data.dataset import Split, write_dataset
from flowquant.models.model import build_network, write_model
from flowquant.runtime import own_code

own_code.allow(["own_net:Net"])

TINY_NETWORK = TransformerConfig(
    patch=2,
    width=32,
    heads=4,
    layers=2,
    feedforward=64,
    activation="gelu",
    dropout=0.1,
    time="fourier",
    condition="embedding",
)
# One network of each family, for grey images of 8 pixels.
TINY_NETWORKS: dict[str, Network] = {
    "transformer": TINY_NETWORK,
    "unet": UnetConfig(
        family="unet",
        channels=32,
        channel_multipliers=(1, 2),
        blocks=1,
        attention=(4,),
        heads=2,
        dropout=0.1,
    ),
    "custom": CustomConfig(
        family="custom",
        class_="own_net:Net",
        arguments='{"classes": 4, "width": 32}',
        call="t, x, labels=y",
        null_class=3,
    ),
    "dit": DitConfig(
        family="dit", patch=2, width=32, heads=4, layers=2, feedforward=64, dropout=0.1
    ),
}
TINY_MODEL = ModelConfig(
    image=ImageConfig(channels=1, size=8),
    condition=ConditionConfig(kind="class", count=3),
    network=TINY_NETWORK,
    flow=FlowConfig(clock="forward", sigma=0.5),
)
TRAINING = TrainingConfig(
    epochs=4,
    batch=16,
    learning_rate=1e-3,
    weight_decay=0.01,
    schedule="cosine",
    warmup_epochs=1,
    halve_after=3,
    stop_after=10,
    clip=1.0,
    validation=20,
    condition_dropout=0.2,
    ema=0.9,
    precision="float32",
)


def write_tiny_model(folder: Path, config: ModelConfig = TINY_MODEL) -> Path:
    """A model file with random weights, also where a fresh network has zeros."""
    torch.manual_seed(0)
    path = folder / "model.safetensors"
    weights = build_network(config).state_dict()
    for tensor in weights.values():
        tensor.add_(0.05 * torch.randn_like(tensor) * (not tensor.any()))
    write_model(path, weights, config, {})
    return path


def write_tiny_dataset(folder: Path) -> Path:
    """A dataset file with random images."""
    path = folder / "data.safetensors"
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (64, 1, 8, 8), generator=draws, dtype=torch.uint8)
    train, test = (Split(images.clone(), torch.arange(64) % 3) for _ in range(2))
    write_dataset(
        path, train, test, image=TINY_MODEL.image, condition=TINY_MODEL.condition, provenance={}
    )
    return path
