"""What a velocity model is: its images, conditions, network and flow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import TypeAdapter, model_validator

from flowquant.config.custom import CustomConfig
from flowquant.config.fields import WHOLE, Count, Positive, refuse, section, whole
from flowquant.config.network import Network

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
class FlowConfig:
    """The path from noise to image."""

    clock: Literal["forward", "backward"]
    """Time as the network is given it: t, 0 for noise and 1 for an image (``forward``), or 1 − t
    (``backward``)."""

    time_scale: Annotated[Literal[1, 1000], WHOLE] = 1
    """What the clock's time is multiplied by: 1000 where the network counts a thousand steps."""

    sigma: Positive = 0.5
    """Standard deviation of the noise."""


@section
class ModelConfig:
    """All that a network's weights need to become a flow."""

    image: ImageConfig
    """What an image is."""

    condition: ConditionConfig
    """What a sample is conditioned on."""

    network: Network
    """The velocity network, by ``family``."""

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
        self.network.check_size(self.image.size)
        if self.condition.kind == "attributes" and self.network.condition == "embedding":
            other = self.network.for_attributes
            refuse(
                "network.condition",
                found="'embedding' for attributes",
                expected=f"'{other}', since several attributes hold at once",
                remedy=f"Set `condition: {other}`.",
            )
        if (
            isinstance(self.network, CustomConfig)
            and self.network.null_class is not None
            and self.condition.kind == "attributes"
        ):
            refuse(
                "network.null_class",
                found=f"{self.network.null_class} for attributes",
                expected="null, since no class is seen",
                remedy="Leave it out.",
            )
        return self
