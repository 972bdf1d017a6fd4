"""What a velocity model is: its images, conditions, network and flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class ImageConfig:
    """What an image is: ``channels`` (1 grey, 3 RGB), and ``size``, height and width in pixels."""

    channels: int
    size: int


@dataclass(frozen=True)
class ConditionConfig:
    """What the network is told besides time: one of ``count`` classes, or ``count`` attributes."""

    kind: Literal["class", "attributes"]
    count: int


@dataclass(frozen=True)
class NetworkConfig:
    """The size and shape of a velocity network (REFERENCE presets in ``config/datasets.yaml``)."""

    family: Literal["transformer"]
    patch: int
    width: int
    heads: int
    layers: int
    feedforward: int
    activation: Literal["relu", "gelu"]
    dropout: float
    time: Literal["linear", "fourier"]
    condition: Literal["embedding", "linear"]


@dataclass(frozen=True)
class FlowConfig:
    """The path's end at noise, N(0, ``sigma``²), and the time that the network is told.

    ``clock``: ``forward`` tells t (0 noise, 1 image), ``backward`` tells 1 − t.
    """

    clock: Literal["forward", "backward"]
    sigma: float


@dataclass(frozen=True)
class ModelConfig:
    """All that a network's weights need to become a flow."""

    image: ImageConfig
    condition: ConditionConfig
    network: NetworkConfig
    flow: FlowConfig

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `dataclasses.asdict`."""
        return cls(
            ImageConfig(**content["image"]),
            ConditionConfig(**content["condition"]),
            NetworkConfig(**content["network"]),
            FlowConfig(**content["flow"]),
        )
