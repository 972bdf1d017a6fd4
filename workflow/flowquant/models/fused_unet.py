"""The U-Net's norms, activations and dropouts in one kernel each on a GPU, channels last."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from flowquant.models.kernels.bias import add_bias, sum_pixels
from flowquant.models.kernels.group_norm import group_norm, group_norm_backward
from flowquant.models.unet import Norm, Residual, Unet

LAST = torch.channels_last


class _GroupNorm(torch.autograd.Function):
    """`group_norm` with gradients; ``seed`` of the dropout: int64 [1]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        added: Tensor | None,
        weight: Tensor,
        bias: Tensor,
        groups: int,
        eps: float,
        silu: bool,
        dropout: float,
        seed: Tensor | None,
    ) -> Tensor:
        moments = torch.empty(2, len(x), groups, device=x.device)
        kept = torch.empty_like(x, dtype=torch.int8) if dropout > 0 else None
        out = group_norm(x, groups, weight, bias, eps, silu, added, dropout, seed, moments, kept)
        ctx.save_for_backward(x, added, weight, bias, moments, kept)
        ctx.settings = groups, silu, dropout
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, added, weight, bias, moments, kept = ctx.saved_tensors
        groups, silu, dropout = ctx.settings
        grad = grads[0].contiguous(memory_format=LAST)
        of_x, of_weight, of_bias, of_added = group_norm_backward(
            x, grad, groups, weight, bias, moments, silu, added, dropout, kept
        )
        return of_x, of_added, of_weight, of_bias, None, None, None, None, None


class _AddBias(torch.autograd.Function):
    """`add_bias` with gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, bias: Tensor) -> Tensor:
        ctx.dtype = bias.dtype
        return add_bias(x, y, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        grad = grads[0].contiguous(memory_format=LAST)
        return grad, grad, sum_pixels(grad, ctx.dtype)


def normed(
    norm: Norm,
    x: Tensor,
    silu: bool = False,
    added: Tensor | None = None,
    dropout: float = 0.0,
    seed: Tensor | None = None,
) -> Tensor:
    """dropout(SiLU(norm(x + added))) of images [B, C, H, W] and ``added`` [B, C]."""
    x = x.contiguous(memory_format=LAST)
    settings = norm.num_groups, norm.eps, silu
    if torch.is_grad_enabled():
        return _GroupNorm.apply(x, added, norm.weight, norm.bias, *settings, dropout, seed)
    groups, eps, _ = settings
    return group_norm(x, groups, norm.weight, norm.bias, eps, silu, added, dropout, seed)


def unbiased(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution of [B, C, H, W] but for its bias, which costs a pass over the images alone."""
    return nn.functional.conv2d(x, layer.weight, None, layer.stride, layer.padding)


def residual(layer: Any, seed: Tensor | None, x: Tensor, context: Tensor) -> Tensor:
    """`Residual.forward` of a ``layer``, without dropout where there is no ``seed``, int64 [1].

    The first convolution's bias is added with what the norm after it adds to channels, the
    second's with the way around.
    """
    norm, _, convolution = layer.in_layers
    hidden = normed(norm, x, silu=True)
    if layer.resample is not None:
        hidden, x = layer.resample(hidden), layer.resample(x)
    hidden = unbiased(convolution, hidden)
    told = layer.emb_layers(context)
    norm, activation, dropout, second = layer.out_layers
    rate = 0.0 if seed is None else dropout.p
    if layer.scale_shift:
        scale, shift = told[..., None, None].chunk(2, dim=1)
        added = convolution.bias.expand(len(x), -1).contiguous()
        hidden = activation(normed(norm, hidden, added=added) * (1 + scale) + shift)
        hidden = nn.functional.dropout(hidden, rate)
    else:
        hidden = normed(norm, hidden, True, told + convolution.bias, rate, seed)
    hidden, bias, around = unbiased(second, hidden), second.bias, layer.skip_connection
    if isinstance(around, nn.Conv2d):
        x, bias = unbiased(around, x), bias + around.bias
    x, hidden = x.contiguous(memory_format=LAST), hidden.contiguous(memory_format=LAST)
    if torch.is_grad_enabled():
        return _AddBias.apply(x, hidden, bias)
    return add_bias(x, hidden, bias)


def fuse_unet(network: Unet, seeds: Tensor | None = None) -> None:
    """Make a U-Net compute in few kernels, channels last; with dropout if there are ``seeds``.

    ``seeds``: int64 [at least as many as residual layers, 1 or more], a row for each.
    """
    network.to(memory_format=LAST)
    layers = [module for module in network.modules() if isinstance(module, Residual)]
    for index, layer in enumerate(layers):
        seed = None if seeds is None else seeds[index, :1]
        layer.forward = partial(residual, layer, seed)  # type: ignore[method-assign]
    for module in network.modules():
        if isinstance(module, Norm):
            module.forward = partial(normed, module)  # type: ignore[method-assign]
