"""The velocity network: a transformer over image patches, with the reference's parameter names."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.network import TransformerConfig

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class FourierFeatures(nn.Module):
    """sin and cos of 2π·s·W, W fixed at N(0, scale²): time [B, 1] → [B, 2·count]."""

    def __init__(self, count: int, scale: float = 10.0) -> None:
        super().__init__()
        # A parameter, not a buffer: the reference stores and quantizes it with the weights.
        self.W = nn.Parameter(torch.randn(count) * scale, requires_grad=False)

    def forward(self, time: Tensor) -> Tensor:
        angle = 2 * math.pi * time * self.W
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class SelfAttention(nn.Module):
    """Multi-head self-attention [B, N, D] → [B, N, D], with `nn.MultiheadAttention`'s names."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def project(self, x: Tensor) -> Tensor:
        """Queries, keys and values side by side, [B, N, 3·D]."""
        return F.linear(x, self.in_proj_weight, self.in_proj_bias)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        projected = self.project(x)
        split = projected.view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropout if self.training else 0.0
        )
        return self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class EncoderLayer(nn.Module):
    """Attention and a feed-forward network, each followed by residual and LayerNorm (post-norm)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.self_attn = SelfAttention(config.width, config.heads, config.dropout)
        self.linear1 = nn.Linear(config.width, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, config.width)
        self.norm1 = nn.LayerNorm(config.width)
        self.norm2 = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.activation: Callable[[Tensor], Tensor] = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm1(x + self.dropout(self.self_attn(x)))
        hidden = self.dropout(self.activation(self.linear1(x)))
        return self.norm2(x + self.dropout(self.linear2(hidden)))


class Encoder(nn.Module):
    """A stack of encoder layers; exists for the reference's name ``transformer.layers``."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class FlowTransformer(nn.Module):
    """Velocity of an image under a flow, given the clock's time and a condition.

    Image → patches → linear → + condition + time + position → encoder → linear → image.
    """

    def __init__(
        self, config: TransformerConfig, image: ImageConfig, condition: ConditionConfig
    ) -> None:
        super().__init__()
        width, patch_values = config.width, image.channels * config.patch**2
        self.patch = config.patch
        self.conditions = condition.count
        self.pos_emb = nn.Parameter(torch.randn(1, (image.size // config.patch) ** 2, width) * 0.02)
        self.patch_proj = nn.Linear(patch_values, width)
        self.out_proj = nn.Linear(width, patch_values)
        if config.condition == "embedding":
            self.class_emb = nn.Embedding(condition.count, width)
        else:
            self.attr_emb = nn.Linear(condition.count, width)
        if config.time == "linear":
            time_input: list[nn.Module] = [nn.Linear(1, width)]
        else:
            time_input = [FourierFeatures(width), nn.Linear(2 * width, width)]
        self.time_mlp = nn.Sequential(*time_input, nn.SiLU(), nn.Linear(width, width))
        self.transformer = Encoder(config)

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """The velocity [B, C, H, W], as `VelocityNetwork.forward` says."""
        batch, channels, height, width = x.shape
        rows, columns, p = height // self.patch, width // self.patch, self.patch
        dtype = self.pos_emb.dtype
        patches = x.to(dtype).view(batch, channels, rows, p, columns, p).permute(0, 2, 4, 1, 3, 5)
        patches = patches.reshape(batch, rows * columns, channels * p * p)
        time_embedding = self.time_mlp(time[:, None]).to(dtype)
        factor = None if kept is None else kept[:, None].to(dtype)
        context = self._embed(condition, factor) + time_embedding
        tokens = self.transformer(self.begin(patches, context))
        patches = self.out_proj(tokens).view(batch, rows, columns, channels, p, p)
        image = patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels, height, width)
        return image.to(x.dtype)

    def begin(self, patches: Tensor, context: Tensor) -> Tensor:
        """The encoder's input [B, N, D] of patches [B, N, P] and their image's context [B, D]."""
        return self.patch_proj(patches) + context[:, None] + self.pos_emb

    def cast(self, dtype: torch.dtype) -> None:
        """Compute in ``dtype``, but time features, whose angles need float32."""
        self.to(dtype)
        self.time_mlp.float()

    @property
    def middle(self) -> nn.Module:
        """The encoder layer in the middle."""
        return self.transformer.layers[len(self.transformer.layers) // 2]

    @property
    def embedders(self) -> tuple[nn.Module, ...]:
        """What time and condition go through on their way to the tokens."""
        return self.time_mlp, self.class_emb if hasattr(self, "class_emb") else self.attr_emb

    def _embed(self, condition: Tensor, factor: Tensor | None) -> Tensor:
        """The condition's embedding [B, D], times ``factor`` [B, 1] before a bias is added."""
        if hasattr(self, "class_emb"):
            embedded = self.class_emb(condition)
            return embedded if factor is None else embedded * factor
        if condition.dim() == 1:
            condition = F.one_hot(condition, self.conditions)
        values = condition.to(self.pos_emb.dtype)
        return self.attr_emb(values if factor is None else values * factor)
