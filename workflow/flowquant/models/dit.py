"""The transformer of DiT (Peebles & Xie, arXiv 2212.09748) and SiT (2401.08740)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.network import DitConfig
from flowquant.models.embedding import PERIOD, time_features

TIME_FEATURES = 256
EPSILON = 1e-6


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Tokens [B, N, D], normed, scaled by 1 + scale and shifted, both [B, 1, D]."""
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON) * (1 + scale) + shift


class Attention(nn.Module):
    """Multi-head self-attention [B, N, D] → [B, N, D], with timm's names."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        split = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        mixed = F.scaled_dot_product_attention(*split.permute(2, 0, 3, 1, 4))
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    """The feed-forward network [B, N, D] → [B, N, D], with timm's names."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.feedforward)
        self.fc2 = nn.Linear(config.feedforward, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """Attention and a feed-forward network, normed before and gated after by the context [B, D]."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(config), Mlp(config)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 6 * config.width))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        parts = self.adaLN_modulation(context)[:, None].chunk(6, dim=-1)
        attention, feedforward = parts[:3], parts[3:]
        x = x + attention[2] * self.dropout(self.attn(modulate(x, *attention[:2])))
        return x + feedforward[2] * self.dropout(self.mlp(modulate(x, *feedforward[:2])))


class PatchEmbedder(nn.Module):
    """Images [B, C, H, W] to tokens [B, N, D], row by row."""

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class TimeEmbedder(nn.Module):
    """Times [B] to [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, time: Tensor) -> Tensor:
        return self.mlp(time_features(time, TIME_FEATURES))


class LabelEmbedder(nn.Module):
    """Classes int64 [B] to [B, D]; one that is not kept is the last row's, or zeros."""

    def __init__(self, classes: int, width: int, null_class: bool) -> None:
        super().__init__()
        self.classes, self.null_class = classes, null_class
        self.embedding_table = nn.Embedding(classes + null_class, width)

    def forward(self, classes: Tensor, kept: Tensor | None) -> Tensor:
        if kept is None:
            return self.embedding_table(classes)
        if self.null_class:
            return self.embedding_table(classes.masked_fill(kept == 0, self.classes))
        return self.embedding_table(classes) * kept[:, None]


class FinalLayer(nn.Module):
    """Tokens [B, N, D] to values of patches [B, N, P], under the context [B, D]."""

    def __init__(self, width: int, values: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, values)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        parts = self.adaLN_modulation(context)[:, None].chunk(2, dim=-1)
        return self.linear(modulate(x, *parts))


class Dit(nn.Module):
    """Velocity of an image by a transformer over its patches.

    Time and condition are one context, which scales, shifts and gates all blocks.
    """

    def __init__(self, config: DitConfig, image: ImageConfig, condition: ConditionConfig) -> None:
        super().__init__()
        width, side = config.width, image.size // config.patch
        self.patch = config.patch
        # Twice the channels where the network predicts a variance too, which flows do without.
        self.channels = image.channels * (1 + config.learned_sigma)
        self.x_embedder = PatchEmbedder(image.channels, config.patch, width)
        self.t_embedder = TimeEmbedder(width)
        if config.condition == "embedding":
            self.y_embedder = LabelEmbedder(condition.count, width, config.null_class)
        # A parameter, not a buffer: published files hold it.
        self.pos_embed = nn.Parameter(torch.zeros(1, side**2, width), requires_grad=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_layer = FinalLayer(width, config.patch**2 * self.channels)
        self._initialise(side)

    @torch.no_grad()
    def _initialise(self, side: int) -> None:
        """As published: a block changes nothing until it is trained, and the velocity is 0."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.x_embedder.proj.weight.flatten(1))
        assert self.x_embedder.proj.bias is not None
        nn.init.zeros_(self.x_embedder.proj.bias)
        for index in (0, 2):
            nn.init.normal_(self.t_embedder.mlp[index].weight, std=0.02)  # type: ignore[arg-type]
        if hasattr(self, "y_embedder"):
            nn.init.normal_(self.y_embedder.embedding_table.weight, std=0.02)
        last = [layer.adaLN_modulation[1] for layer in (*self.blocks, self.final_layer)]
        for linear in (*last, self.final_layer.linear):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        self.pos_embed.copy_(places(side, self.pos_embed))

    @property
    def middle(self) -> nn.Module:
        """The block in the middle."""
        return self.blocks[len(self.blocks) // 2]

    @property
    def embedders(self) -> tuple[nn.Module, ...]:
        """What time and class go through on their way to the blocks."""
        label = (self.y_embedder,) if hasattr(self, "y_embedder") else ()
        return self.t_embedder, *label

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """The velocity [B, C, H, W], as `VelocityNetwork.forward` says."""
        batch, channels, height, width = x.shape
        dtype, p = self.pos_embed.dtype, self.patch
        context = self.t_embedder(time)
        if hasattr(self, "y_embedder"):
            context = context + self.y_embedder(condition, kept)
        context = context.to(dtype)
        tokens = self.x_embedder(x.to(dtype)) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens, context)
        values = self.final_layer(tokens, context)
        patches = values.view(batch, height // p, width // p, p, p, self.channels)
        velocity = patches[..., :channels].permute(0, 5, 1, 3, 2, 4)
        return velocity.reshape(batch, channels, height, width).to(x.dtype)

    def cast(self, dtype: torch.dtype) -> None:
        """Compute in ``dtype``, but what becomes of times and classes."""
        self.to(dtype)
        for module in self.embedders:
            module.float()


def places(side: int, like: Tensor) -> Tensor:
    """What each of side × side patches is known by, on the device of ``like`` [1, N, D].

    Sines, then cosines, of its column in the first half of D, of its row in the second; published
    ones are computed in float64.
    """
    step = torch.arange(side, dtype=torch.float64, device=like.device)
    quarter = torch.arange(like.shape[-1] // 4, dtype=torch.float64, device=like.device)
    angles = step[:, None] * PERIOD ** -(quarter / len(quarter))
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns, rows = axis.repeat(side, 1), axis.repeat_interleave(side, 0)
    return torch.cat([columns, rows], dim=1).to(like.dtype)
