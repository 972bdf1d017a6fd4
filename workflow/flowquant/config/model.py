"""What a velocity model is: its images, conditions, network and flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import TypeAdapter, model_validator

from flowquant.config.fields import WHOLE, Count, Positive, number, refuse, section, whole

# With attributes there are no classes to count: so many times ``per_class`` images are sampled
# (the reference's 1,000 CelebA samples for 100 a class).
ATTRIBUTE_GROUPS = 10


@section
class ImageConfig:
    """What an image is."""

    channels: Annotated[Literal[1, 3], WHOLE]
    """1 grey, 3 RGB."""

    size: Annotated[int, whole(ge=4, le=1024), WHOLE]
    """Height and width in pixels."""


@section
class ConditionConfig:
    """What the network is given besides time."""

    kind: Literal["class", "attributes"]
    """``class``: one of ``count``; ``attributes``: ``count`` of them, each 0 or 1."""

    count: Count
    """Number of classes or attributes."""

    @property
    def labels(self) -> int:
        """How many kinds of samples are asked for: the classes, or `ATTRIBUTE_GROUPS` shares."""
        return ATTRIBUTE_GROUPS if self.kind == "attributes" else self.count


@section
class NetworkConfig:
    """The size and shape of a velocity network; the paper's are in ``config/datasets.yaml``."""

    family: Literal["transformer"] = "transformer"
    """Kind of network."""

    patch: Count
    """Patch size in pixels; divides the image size."""

    width: Count
    """Width of a token."""

    heads: Count
    """Attention heads; divides the width."""

    layers: Count
    """Encoder layers."""

    feedforward: Count
    """Width of the feed-forward network."""

    activation: Literal["relu", "gelu"]
    """Of the feed-forward network; ``gelu`` is the exact one."""

    dropout: Annotated[float, number(ge=0, lt=1)] = 0.1
    """Probability, in training only."""

    time: Literal["linear", "fourier"]
    """How time enters: as it is, or as ``fourier`` features."""

    condition: Literal["embedding", "linear"]
    """How the condition enters: an ``embedding`` table of classes, or a ``linear`` map of a one-hot
    vector or attributes."""

    @model_validator(mode="after")
    def _check(self) -> NetworkConfig:
        if self.width % self.heads:
            refuse(
                "heads",
                found=self.heads,
                expected=f"a divisor of the width {self.width}",
                remedy="Choose a number of heads that divides the width.",
            )
        return self


@section
class FlowConfig:
    """The path from noise to image."""

    clock: Literal["forward", "backward"]
    """Time as the network is given it: t, 0 for noise and 1 for an image (``forward``), or 1 − t
    (``backward``)."""

    sigma: Positive = 0.5
    """Standard deviation of the noise."""


@section
class ModelConfig:
    """All that a network's weights need to become a flow."""

    image: ImageConfig
    """What an image is."""

    condition: ConditionConfig
    """What a sample is conditioned on."""

    network: NetworkConfig
    """The velocity network."""

    flow: FlowConfig
    """The path from noise to image."""

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ModelConfig:
        """The inverse of `dataclasses.asdict`.

        Raises:
            pydantic.ValidationError: if the content is no model's.
        """
        return TypeAdapter(cls).validate_python(dict(content))

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.image.size % self.network.patch:
            refuse(
                "network.patch",
                found=self.network.patch,
                expected=f"a divisor of the image size {self.image.size}",
                remedy="Choose a patch that divides the image.",
            )
        if self.condition.kind == "attributes" and self.network.condition == "embedding":
            refuse(
                "network.condition",
                found="'embedding' for attributes",
                expected="'linear', since several attributes hold at once",
                remedy="Set `condition: linear`.",
            )
        return self
