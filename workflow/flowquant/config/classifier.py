"""The classifier that judges samples."""

from __future__ import annotations

from dataclasses import dataclass

from flowquant.config.model import ImageConfig


@dataclass(frozen=True)
class ArchitectureConfig:
    """A torchvision classification model by name, for ``classes`` classes of ``image``."""

    name: str
    image: ImageConfig
    classes: int


@dataclass(frozen=True)
class ClassifierConfig:
    """How a classifier is built and trained (the keys under ``classifier`` in a preset)."""

    architecture: str
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    shift: int
    flip: bool
