"""The classifier that judges samples."""

from __future__ import annotations

from typing import Annotated

from flowquant.config.fields import (
    WHOLE,
    Count,
    Flag,
    Natural,
    NonNegative,
    Positive,
    Words,
    number,
    section,
    whole,
)
from flowquant.config.model import ImageConfig


@section
class ArchitectureConfig:
    """A torchvision classification model for images of one kind."""

    name: Words
    """torchvision's name of it."""

    image: ImageConfig
    """What it looks at."""

    classes: Count
    """How many it tells apart."""


@section
class ClassifierConfig:
    """How a classifier is built and trained (the keys under ``classifier`` in a preset)."""

    architecture: Words = "resnet18"
    """A torchvision classification model; under 64 pixels its stem keeps the image's size."""

    epochs: Count
    """Passes over the data."""

    batch: Annotated[int, whole(ge=2), WHOLE] = 128
    """Images a step."""

    learning_rate: Positive = 0.002
    """Peak of the one-cycle schedule."""

    weight_decay: NonNegative = 0.01
    """Of AdamW."""

    shift: Natural = 2
    """Largest random shift in pixels."""

    flip: Flag = False
    """Whether to mirror half of the images."""


@section
class ClassifierSection(ClassifierConfig):
    """The classifier, and how good it should become."""

    reference_accuracy: Annotated[float, number(gt=0, le=1)] = 1.0
    """Share of test images that good classifiers of the dataset are right on, 1 if nobody knows;
    one below 90 % of it is warned of, since what it says of samples means little. Changing it
    trains nothing again."""
