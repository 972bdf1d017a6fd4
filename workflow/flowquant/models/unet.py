"""The U-Net of guided-diffusion (Dhariwal & Nichol, arXiv 2105.05233), with torchcfm's names."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.network import UnetConfig
from flowquant.models.embedding import time_features

GROUPS = 32


class Norm(nn.GroupNorm):
    """Group norm, computed in float32 whatever comes in."""

    def __init__(self, channels: int) -> None:
        super().__init__(GROUPS, channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class Resample(nn.Module):
    """Twice or half the side of [B, C, H, W], by a convolution named ``conv`` or ``op``, or none.

    Up: nearest neighbours, then the convolution. Down: the convolution's stride, or means.
    """

    def __init__(self, channels: int, up: bool, convolution: bool) -> None:
        super().__init__()
        self.up = up
        if convolution and up:
            self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        elif convolution:
            self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
            return self.conv(x) if hasattr(self, "conv") else x
        return self.op(x) if hasattr(self, "op") else F.avg_pool2d(x, 2)


class Residual(nn.Module):
    """Two convolutions with a way around them: [B, in, H, W] and the context [B, E] to [B, out, …].

    With ``resample`` the side changes, ahead of the first convolution and on the way around it.
    """

    def __init__(
        self, config: UnetConfig, given: int, out: int, resample: Resample | None = None
    ) -> None:
        super().__init__()
        self.scale_shift, self.resample = config.scale_shift_norm, resample
        context = 4 * config.channels
        self.in_layers = nn.Sequential(Norm(given), nn.SiLU(), nn.Conv2d(given, out, 3, padding=1))
        told = 2 * out if self.scale_shift else out
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(context, told))
        self.out_layers = nn.Sequential(
            Norm(out),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            zeroed(nn.Conv2d(out, out, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if given == out else nn.Conv2d(given, out, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        norm, activation, convolution = self.in_layers
        hidden = activation(norm(x))
        if self.resample is not None:
            hidden, x = self.resample(hidden), self.resample(x)
        hidden = convolution(hidden)
        told = self.emb_layers(context)[..., None, None]
        if self.scale_shift:
            norm, *rest = self.out_layers
            scale, shift = told.chunk(2, dim=1)
            hidden = norm(hidden) * (1 + scale) + shift
            for layer in rest:
                hidden = layer(hidden)
        else:
            hidden = self.out_layers(hidden + told)
        return self.skip_connection(x) + hidden


class Attention(nn.Module):
    """Self-attention of the pixels of [B, C, H, W], with a way around it."""

    def __init__(self, config: UnetConfig, channels: int) -> None:
        super().__init__()
        size = config.head_channels
        self.heads = channels // size if size else config.heads
        self.apart = config.new_attention_order
        self.norm = Norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        # Convolutions over one pixel are linear layers: pixels that way are rows.
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        projected = F.linear(pixels, self.qkv.weight.flatten(1), self.qkv.bias)
        size = channels // self.heads
        if self.apart:
            split = projected.view(batch, -1, 3, self.heads, size).permute(2, 0, 3, 1, 4)
        else:
            split = projected.view(batch, -1, self.heads, 3, size).permute(3, 0, 2, 1, 4)
        query, key, value = split
        mixed = F.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(1, 2).reshape(batch, -1, channels)
        out = F.linear(mixed, self.proj_out.weight.flatten(1), self.proj_out.bias)
        return x + out.transpose(1, 2).reshape(batch, channels, height, width)


class Stage(nn.Sequential):
    """Layers one after the other, of which the residual ones are told the context."""

    def forward(self, x: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        for layer in self:
            x = layer(x, context) if isinstance(layer, Residual) else layer(x)
        return x


class Unet(nn.Module):
    """Velocity of an image by a U-Net: ever smaller images of ever more channels, and back.

    What each stage of the way down put out is laid beside what comes back at its resolution.
    """

    def __init__(self, config: UnetConfig, image: ImageConfig, condition: ConditionConfig) -> None:
        super().__init__()
        self.channels = config.channels
        context = 4 * config.channels
        self.time_embed = nn.Sequential(
            nn.Linear(config.channels, context), nn.SiLU(), nn.Linear(context, context)
        )
        if config.condition == "embedding":
            self.label_emb = nn.Embedding(condition.count, context)
        widths = [multiplier * config.channels for multiplier in config.channel_multipliers]
        sides = [image.size >> level for level in range(len(widths))]

        def stage(level: int, given: int, then: Iterable[nn.Module] = ()) -> Stage:
            attends = sides[level] in config.attention
            attention = [Attention(config, widths[level])] if attends else []
            return Stage(Residual(config, given, widths[level]), *attention, *then)

        def resample(width: int, up: bool) -> nn.Module:
            if config.resample_blocks:
                return Residual(config, width, width, Resample(width, up, convolution=False))
            return Resample(width, up, convolution=True)

        first = width = widths[0]
        self.input_blocks = nn.ModuleList([Stage(nn.Conv2d(image.channels, first, 3, padding=1))])
        kept = [first]
        for level in range(len(widths)):
            for _ in range(config.blocks):
                self.input_blocks.append(stage(level, width))
                width = widths[level]
                kept.append(width)
            if level < len(widths) - 1:
                self.input_blocks.append(Stage(resample(width, up=False)))
                kept.append(width)
        self.middle_block = Stage(
            Residual(config, width, width),
            Attention(config, width),
            Residual(config, width, width),
        )
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for index in range(config.blocks + 1):
                last = level > 0 and index == config.blocks
                then = [resample(widths[level], up=True)] if last else []
                self.output_blocks.append(stage(level, width + kept.pop(), then))
                width = widths[level]
        self.out = nn.Sequential(
            Norm(width), nn.SiLU(), zeroed(nn.Conv2d(width, image.channels, 3, padding=1))
        )

    @property
    def middle(self) -> nn.Module:
        """The stage of the smallest images."""
        return self.middle_block

    @property
    def embedders(self) -> tuple[nn.Module, ...]:
        """What time and class go through on their way to the blocks."""
        label = (self.label_emb,) if hasattr(self, "label_emb") else ()
        return self.time_embed, *label

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """The velocity [B, C, H, W], as `VelocityNetwork.forward` says."""
        context = self.time_embed(time_features(time, self.channels))
        if hasattr(self, "label_emb"):
            label = self.label_emb(condition)
            context = context + (label if kept is None else label * kept[:, None])
        dtype = next(self.input_blocks.parameters()).dtype
        context = context.to(dtype)
        hidden = x.to(dtype)
        outputs = []
        for stage in self.input_blocks:
            hidden = stage(hidden, context)
            outputs.append(hidden)
        hidden = self.middle_block(hidden, context)
        for stage in self.output_blocks:
            hidden = stage(torch.cat([hidden, outputs.pop()], dim=1), context)
        return self.out(hidden).to(x.dtype)

    def cast(self, dtype: torch.dtype) -> None:
        """Compute in ``dtype``, but norms and what becomes of times and classes."""
        self.to(dtype)
        for module in (*self.embedders, *(m for m in self.modules() if isinstance(m, Norm))):
            module.float()


def zeroed(layer: nn.Conv1d | nn.Conv2d) -> nn.Conv1d | nn.Conv2d:
    """A layer that puts out 0 until it is trained."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
