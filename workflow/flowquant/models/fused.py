"""Networks in few kernels on a GPU, in bfloat16: for inference, and for training."""

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowquant.models.fused_encoder import encode_training
from flowquant.models.fused_unet import fuse_unet
from flowquant.models.kernels.attention import MOST_TOKENS, attention
from flowquant.models.kernels.norm import add_norm
from flowquant.models.kernels.tokens import begin
from flowquant.models.products import linear_relu
from flowquant.models.transformer import Encoder, EncoderLayer, FlowTransformer
from flowquant.models.unet import Residual, Unet


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

    The layer's weights are of x's type, x is contiguous [B, N, D] and overwritten; beyond 128
    tokens the layer computes as it is.
    """
    if x.shape[1] > MOST_TOKENS:
        return EncoderLayer.forward(layer, x)
    attend = layer.self_attn
    mixed = attention(attend.project(x), attend.heads)
    y = _add_product(x, mixed, attend.out_proj)
    x = add_norm(x, y, layer.norm1.weight, layer.norm1.bias, layer.norm1.eps)
    wide: Any = layer.linear1
    if layer.activation is F.relu:
        hidden = linear_relu(x, _dense(wide.weight, x.dtype), wide.bias)
    else:
        hidden = layer.activation(layer.linear1(x))
    y = _add_product(x, hidden, layer.linear2)
    return add_norm(x, y, layer.norm2.weight, layer.norm2.bias, layer.norm2.eps)


def _add_product(x: Tensor, given: Tensor, linear: Any) -> Tensor:
    """Add given·Wᵀ to x within the product, which has time for memory; return what is left to add.

    That is the bias, for where the sum is read.
    """
    x.flatten(0, -2).addmm_(given.flatten(0, -2), _dense(linear.weight, x.dtype).t())
    bias: Tensor = linear.bias
    return bias


def fuse(network: nn.Module) -> None:
    """Make a network compute in few kernels, without dropout or gradients.

    What is neither an encoder layer nor a U-Net stays as it is.
    """
    for module in network.modules():
        if isinstance(module, EncoderLayer):
            module.forward = partial(encode, module)  # type: ignore[method-assign]
        elif isinstance(module, Encoder):
            vars(module).pop("forward", None)  # which may have been in FP8
    if isinstance(network, FlowTransformer):
        network.begin = partial(begin_tokens, network)  # type: ignore[method-assign]
    if isinstance(network, Unet):
        fuse_unet(network)


def fuse_for_training(network: nn.Module, device: torch.device) -> dict[Tensor, Tensor]:
    """`fuse`, with gradients, and with dropouts that draw new seeds at every pass.

    Returns where encoder layers write their weights' gradients, by weight: nowhere as it comes,
    and autograd accumulates them. Who wants them written gives all of these weights a place.
    """
    places: dict[Tensor, Tensor] = {}
    encoders = [module for module in network.modules() if isinstance(module, Encoder)]
    counts = [len(encoder.layers) for encoder in encoders]
    others = sum(isinstance(module, Residual) for module in network.modules())
    seeds = torch.zeros(sum(counts) + others, 4, dtype=torch.int64, device=device)
    for encoder, own in zip(encoders, seeds[: sum(counts)].split(counts), strict=True):
        layers: Any = list(encoder.layers)
        forward = partial(encode_training, layers, own, places)
        encoder.forward = forward  # type: ignore[method-assign]
    if isinstance(network, Unet):
        fuse_unet(network, seeds)

    def draw(*_: Any) -> None:
        seeds.random_()

    if len(seeds):
        network.register_forward_pre_hook(draw)
    return places
