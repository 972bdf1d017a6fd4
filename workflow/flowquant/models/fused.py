"""Networks in few kernels on a GPU, in bfloat16: for inference, and for training."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowquant.models.fused_unet import fuse_unet
from flowquant.models.kernels.activation import activate, activate_backward
from flowquant.models.kernels.attention import MOST_TOKENS, attention, attention_backward
from flowquant.models.kernels.norm import add_norm, add_norm_backward
from flowquant.models.kernels.tokens import begin
from flowquant.models.products import linear_relu
from flowquant.models.transformer import Encoder, EncoderLayer, FlowTransformer
from flowquant.models.unet import Residual, Unet

# Whether what a transformer begins with is one kernel, and whether a feed-forward network's second
# product, which has time for memory, adds to its residual.
ONE_BEGINNING = True
SUM_IN_PRODUCT = True


def begin_tokens(network: FlowTransformer, patches: Tensor, context: Tensor) -> Tensor:
    """`FlowTransformer.begin` in one kernel."""
    first: Any = network.patch_proj
    weight = _dense(first.weight, patches.dtype)
    return begin(patches, weight, first.bias, context, network.pos_emb)


def _dense(weight: Any, dtype: torch.dtype) -> Tensor:
    """A weight, expanded if it is packed."""
    return weight if isinstance(weight, Tensor) else weight.dense(dtype)


def encode(layer: EncoderLayer, x: Tensor) -> Tensor:
    """`EncoderLayer.forward` without dropout or gradients, in seven kernels.

    The layer's weights are of x's type, x is contiguous [B, N, D]; beyond 128 tokens the layer
    computes as it is.
    """
    if x.shape[1] > MOST_TOKENS:
        return EncoderLayer.forward(layer, x)
    attend = layer.self_attn
    mixed = attend.out_proj(attention(attend.project(x), attend.heads))
    x = add_norm(x, mixed, layer.norm1.weight, layer.norm1.bias, layer.norm1.eps)
    wide: Any = layer.linear1
    if layer.activation is F.relu:
        hidden = linear_relu(x, _dense(wide.weight, x.dtype), wide.bias)
    else:
        hidden = layer.activation(layer.linear1(x))
    narrow: Any = layer.linear2
    if SUM_IN_PRODUCT and isinstance(narrow.weight, Tensor):
        # x is this function's own by now. The bias is added where the sum is read.
        x.flatten(0, -2).addmm_(hidden.flatten(0, -2), narrow.weight.t())
        y = narrow.bias
    else:
        y = narrow(hidden)
    return add_norm(x, y, layer.norm2.weight, layer.norm2.bias, layer.norm2.eps)


# A linear layer's bias is added, detached, by its matrix product; its gradient, a sum over rows,
# comes from the backward pass of the kernel that follows, which reads those rows anyway. So each
# function below takes, beside the sum, the bias already in it.


class _Attention(torch.autograd.Function):
    """Self-attention of ``qkv`` [B, N, 3·D], its bias [3·D] included; [B, N, D].

    ``seed`` of the dropout: int64 [1], here and below.
    """

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, qkv_bias: Tensor, heads: int, dropout: float, seed: Tensor
    ) -> Tensor:
        ctx.save_for_backward(qkv, seed)
        ctx.settings = heads, dropout
        return attention(qkv, heads, dropout, seed)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        qkv, seed = ctx.saved_tensors
        heads, dropout = ctx.settings
        of_qkv, of_bias = attention_backward(qkv, grads[0].contiguous(), heads, dropout, seed)
        return of_qkv, of_bias, None, None, None


class _AddNorm(torch.autograd.Function):
    """LayerNorm of x + dropout(y), both [B, N, D], y's bias [D] included; [B, N, D]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        weight: Tensor,
        bias: Tensor,
        y_bias: Tensor,
        eps: float,
        dropout: float,
        seed: Tensor,
    ) -> Tensor:
        total = torch.empty_like(x)
        kept = torch.empty_like(x, dtype=torch.int8) if dropout > 0 else None
        out = add_norm(x, y, weight, bias, eps, dropout, seed, total, kept)
        ctx.save_for_backward(total, weight, kept)
        ctx.settings = eps, dropout
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        total, weight, kept = ctx.saved_tensors
        eps, dropout = ctx.settings
        of_inputs = add_norm_backward(total, grads[0].contiguous(), weight, eps, dropout, kept)
        return *of_inputs, None, None, None


class _Activate(torch.autograd.Function):
    """Dropout of ReLU or GELU of ``x`` [B, N, F], its bias [F] included; [B, N, F]."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, x_bias: Tensor, gelu: bool, dropout: float, seed: Tensor
    ) -> Tensor:
        kept = torch.empty_like(x, dtype=torch.int8) if gelu and dropout > 0 else None
        out = activate(x, gelu, dropout, seed, kept)
        ctx.save_for_backward(x if gelu else out, kept)
        ctx.settings = gelu, dropout
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved, kept = ctx.saved_tensors
        gelu, dropout = ctx.settings
        of_inputs = activate_backward(saved, grads[0].contiguous(), gelu, dropout, kept)
        return *of_inputs, None, None, None


def encode_training(layer: EncoderLayer, seeds: Tensor, x: Tensor) -> Tensor:
    """`EncoderLayer.forward` with dropout and gradients, for layers and x as `encode` takes them.

    ``seeds`` are those of the layer's four dropouts, int64 [4] on the device.
    """
    if x.shape[1] > MOST_TOKENS:
        return EncoderLayer.forward(layer, x)
    attend, dropout, gelu = layer.self_attn, layer.dropout.p, layer.activation is F.gelu
    out_proj, linear1, linear2 = attend.out_proj, layer.linear1, layer.linear2
    qkv = F.linear(x, attend.in_proj_weight, attend.in_proj_bias.detach())
    mixed = _Attention.apply(qkv, attend.in_proj_bias, attend.heads, attend.dropout, seeds[:1])
    y = F.linear(mixed, out_proj.weight, out_proj.bias.detach())
    norm = (layer.norm1.weight, layer.norm1.bias, out_proj.bias, layer.norm1.eps)
    x = _AddNorm.apply(x, y, *norm, dropout, seeds[1:2])
    hidden = F.linear(x, linear1.weight, linear1.bias.detach())
    hidden = _Activate.apply(hidden, linear1.bias, gelu, dropout, seeds[2:3])
    y = F.linear(hidden, linear2.weight, linear2.bias.detach())
    norm = (layer.norm2.weight, layer.norm2.bias, linear2.bias, layer.norm2.eps)
    return _AddNorm.apply(x, y, *norm, dropout, seeds[3:])


def fuse(network: nn.Module) -> None:
    """Make a network compute in few kernels, without dropout or gradients.

    What is neither an encoder layer nor a U-Net stays as it is.
    """
    for module in network.modules():
        if isinstance(module, EncoderLayer):
            module.forward = partial(encode, module)  # type: ignore[method-assign]
        elif isinstance(module, Encoder):
            vars(module).pop("forward", None)  # which may have been in FP8
    if isinstance(network, FlowTransformer) and ONE_BEGINNING:
        network.begin = partial(begin_tokens, network)  # type: ignore[method-assign]
    if isinstance(network, Unet):
        fuse_unet(network)


def fuse_for_training(network: nn.Module, device: torch.device) -> None:
    """`fuse`, with gradients, and with dropouts that draw new seeds at every pass."""
    kinds = (EncoderLayer, Residual)
    layers = [module for module in network.modules() if isinstance(module, kinds)]
    seeds = torch.zeros(len(layers), 4, dtype=torch.int64, device=device)
    for layer, own in zip(layers, seeds, strict=True):
        if isinstance(layer, EncoderLayer):
            layer.forward = partial(encode_training, layer, own)  # type: ignore[method-assign]
    if isinstance(network, Unet):
        fuse_unet(network, seeds)

    def draw(*_: Any) -> None:
        seeds.random_()

    if layers:
        network.register_forward_pre_hook(draw)
