"""Velocity networks: a section for each family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from flowquant.config.custom import CustomConfig
from flowquant.config.fields import (
    DEFAULT_TAG,
    EACH_ONCE,
    READS,
    WHOLE,
    Count,
    Flag,
    number,
    refuse,
    section,
    whole,
)

# What is meant where no family is said: configurations and model files have always read so.
DEFAULT_FAMILY = "transformer"
Dropout = Annotated[float, number(ge=0, lt=1)]


@section
class TransformerConfig:
    """A post-norm transformer over image patches; the paper's are in ``config/datasets.yaml``."""

    family: Literal["transformer"] = "transformer"
    """A post-norm transformer over patches."""

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

    dropout: Dropout = 0.1
    """Probability, in training only."""

    time: Literal["linear", "fourier"]
    """How time enters: as it is, or as ``fourier`` features."""

    condition: Literal["embedding", "linear"]
    """How the condition enters: an ``embedding`` table of classes, or a ``linear`` map of a one-hot
    vector or attributes."""

    @property
    def cell(self) -> int:
        """Pixels of which an image's side is a multiple."""
        return self.patch

    @property
    def for_attributes(self) -> str:
        """The ``condition`` to choose where several attributes hold at once."""
        return "linear"

    def check_size(self, size: int) -> None:
        """Refuse images of this side, in pixels, if the network does not take them."""
        _refuse_patch(self.patch, size)

    @model_validator(mode="after")
    def _check(self) -> TransformerConfig:
        _refuse_heads(self.heads, self.width)
        return self


@section
class UnetConfig:
    """The U-Net of Dhariwal and Nichol (arXiv 2105.05233), as torchcfm and guided-diffusion."""

    family: Literal["unet"]
    """A U-Net of residual blocks and attention."""

    channels: Annotated[int, whole(ge=32, multiple_of=32), WHOLE]
    """Channels of a level with the multiplier 1; a norm has 32 groups of them."""

    channel_multipliers: Annotated[
        tuple[Count, ...],
        Field(min_length=1, json_schema_extra={READS: "a list (a whole number, ≥ 1), at least 1"}),
    ]
    """Of the channels, one a level; every level but the last halves the image's side."""

    blocks: Count
    """Residual blocks a level on the way down; one more on the way up."""

    attention: Annotated[tuple[Count, ...], EACH_ONCE] = ()
    """Sides in pixels of the levels with attention, which the middle has anyway."""

    heads: Count = 1
    """Attention heads, where ``head_channels`` is not set; divides the channels."""

    head_channels: Count | None = None
    """Channels of an attention head, which count in place of ``heads``; divides the channels."""

    new_attention_order: Flag = False
    """Whether all heads' queries come first in ``qkv``, in place of each head's own three parts."""

    scale_shift_norm: Flag = False
    """Whether time scales and shifts what a block's second norm puts out, in place of being added
    before it."""

    resample_blocks: Flag = False
    """Whether residual blocks change the resolution, in place of convolutions."""

    dropout: Dropout = 0.0
    """Probability, in training only."""

    condition: Literal["embedding", "none"] = "embedding"
    """How the condition enters: an ``embedding`` table of classes, or ``none``: the network does
    not see it."""

    @property
    def cell(self) -> int:
        """Pixels of which an image's side is a multiple."""
        return 1 << len(self.channel_multipliers) - 1

    @property
    def layers(self) -> int:
        """Residual blocks on the way down."""
        return self.blocks * len(self.channel_multipliers)

    @property
    def for_attributes(self) -> str:
        """The ``condition`` to choose where several attributes hold at once."""
        return "none"

    def check_size(self, size: int) -> None:
        """Refuse images of this side, in pixels, if the network does not take them."""
        levels = len(self.channel_multipliers)
        if size % self.cell:
            refuse(
                "network.channel_multipliers",
                found=f"{levels} levels, which halve {levels - 1} times",
                expected=f"as many as the image size {size} can be halved, and one",
                remedy="Name fewer multipliers, or use images of another size.",
            )
        sides = [size >> level for level in range(levels)]
        for side in self.attention:
            if side not in sides:
                refuse(
                    "network.attention",
                    found=side,
                    expected=f"sides of levels: {', '.join(map(str, sides))}",
                    remedy="Name some of them, or none.",
                )
        multipliers = dict(zip(sides, self.channel_multipliers, strict=True))
        # The middle has the last level's channels, and attention.
        for side in (*self.attention, sides[-1]):
            width, head = multipliers[side] * self.channels, self.head_channels
            if width % (head or self.heads):
                refuse(
                    f"network.{'head_channels' if head else 'heads'}",
                    found=head or self.heads,
                    expected=f"a divisor of the {width} channels that attention has",
                    remedy="Choose one that divides the channels.",
                )


@section
class DitConfig:
    """The transformer with adaptive norms of DiT (arXiv 2212.09748) and SiT (arXiv 2401.08740)."""

    family: Literal["dit"]
    """A pre-norm transformer over patches, whose norms time and condition modulate."""

    patch: Count
    """Patch size in pixels; divides the image size."""

    width: Annotated[int, whole(ge=4, multiple_of=4), WHOLE]
    """Width of a token: sines and cosines of two axes are added to it."""

    heads: Count
    """Attention heads; divides the width."""

    layers: Count
    """Blocks."""

    feedforward: Count
    """Width of the feed-forward networks: published ones are 4 times as wide."""

    dropout: Dropout = 0.0
    """Probability, in training only; published networks have none."""

    learned_sigma: Flag = True
    """Whether the network has twice the channels of an image, of which the first half is the
    velocity and the rest is not used."""

    condition: Literal["embedding", "none"] = "embedding"
    """How the condition enters: an ``embedding`` table of classes, or ``none``: the network does
    not see it."""

    null_class: Flag = True
    """Whether the table of classes ends in a row for no condition; without one it is zeros."""

    @property
    def cell(self) -> int:
        """Pixels of which an image's side is a multiple."""
        return self.patch

    @property
    def for_attributes(self) -> str:
        """The ``condition`` to choose where several attributes hold at once."""
        return "none"

    def check_size(self, size: int) -> None:
        """Refuse images of this side, in pixels, if the network does not take them."""
        _refuse_patch(self.patch, size)

    @model_validator(mode="after")
    def _check(self) -> DitConfig:
        _refuse_heads(self.heads, self.width)
        return self


def _refuse_patch(patch: int, size: int) -> None:
    if size % patch:
        refuse(
            "network.patch",
            found=patch,
            expected=f"a divisor of the image size {size}",
            remedy="Choose a patch that divides the image.",
        )


def _refuse_heads(heads: int, width: int) -> None:
    if width % heads:
        refuse(
            "heads",
            found=heads,
            expected=f"a divisor of the width {width}",
            remedy="Choose a number of heads that divides the width.",
        )


def _of_a_family(content: Any) -> Any:
    """With the family that is meant, and tuples, which strict types ask for, in place of lists."""
    if not isinstance(content, Mapping):
        return content
    said = {key: tuple(v) if isinstance(v, list) else v for key, v in content.items()}
    return {"family": DEFAULT_FAMILY, **said}


Network = Annotated[
    TransformerConfig | UnetConfig | DitConfig | CustomConfig,
    Field(discriminator="family", json_schema_extra={DEFAULT_TAG: DEFAULT_FAMILY}),
    BeforeValidator(_of_a_family),
]
