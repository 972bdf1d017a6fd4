"""Encoder layers in training: all of them one function of autograd, its backward pass by hand.

Weight gradients do not depend on one another, nor does what follows wait for them. So they are put
off, and those of several layers made by one batched product, which fills a GPU that a single
layer's leaves half idle; so are sums of rows. Gradients that meet are added within a product. All
are written where they belong at once, if their caller says where that is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from flowquant.models.kernels.activation import activate, activate_backward, activation_sums
from flowquant.models.kernels.attention import MOST_TOKENS, attention, attention_backward
from flowquant.models.kernels.feedforward import (
    fits,
    linear_relu_backward,
    linear_relu_dropout,
    relu_sums,
)
from flowquant.models.kernels.norm import add_norm, add_norm_backward, norm_sums
from flowquant.models.kernels.sums import sum_stacks
from flowquant.models.transformer import EncoderLayer

# Layers at most whose weight gradients are one product, and wait for it in memory.
TOGETHER = 10

Places = Mapping[Tensor, Tensor]
"""Where gradients are to be written, by weight, in place of being accumulated by autograd."""


class Weights(NamedTuple):
    """An encoder layer's weights, or their gradients; or those of all layers, stacked."""

    qkv: Tensor
    mix: Tensor
    wide: Tensor
    narrow: Tensor
    qkv_bias: Tensor
    mix_bias: Tensor
    wide_bias: Tensor
    narrow_bias: Tensor
    scale1: Tensor
    shift1: Tensor
    scale2: Tensor
    shift2: Tensor


@dataclass(frozen=True)
class _Settings:
    """What layers have in common."""

    heads: int
    attention_dropout: float
    dropout: float
    gelu: bool
    eps: tuple[float, float]


class _Kept(NamedTuple):
    """What a layer's forward pass leaves for its backward pass, none of it a product's input."""

    qkv: Tensor
    total1: Tensor
    kept1: Tensor | None
    before: Tensor | None
    kept: Tensor | None
    total2: Tensor
    kept2: Tensor | None


class _Stacks(NamedTuple):
    """Inputs of the products of all layers [L, B, N, D or F], or the gradients of their outputs."""

    x: Tensor
    mixed: Tensor
    middle: Tensor
    hidden: Tensor


def _weights(layer: EncoderLayer) -> Weights:
    attend, wide, narrow = layer.self_attn, layer.linear1, layer.linear2
    return Weights(
        *(attend.in_proj_weight, attend.out_proj.weight, wide.weight, narrow.weight),
        *(attend.in_proj_bias, attend.out_proj.bias, wide.bias, narrow.bias),
        *(layer.norm1.weight, layer.norm1.bias, layer.norm2.weight, layer.norm2.bias),
    )


class _Encode(torch.autograd.Function):
    """Encoder layers, one after another: x [B, N, D] → [B, N, D].

    ``seeds`` are those of the layers' dropouts, int64 [L, 4]; ``flat`` are the layers' `Weights`,
    one after another.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, seeds: Tensor, settings: _Settings, places: Places, *flat: Tensor
    ) -> Tensor:
        layers = _by_layer(flat)
        width, wide = x.shape[-1], layers[0].wide.shape[0]
        made = [x.new_empty(len(layers), *x.shape[:-1], n) for n in (width, width, width, wide)]
        stacks, kept = _Stacks(*made), []
        stacks.x[0].copy_(x)
        for index, weights in enumerate(layers):
            last = index + 1 == len(layers)
            # The output is no view, which autograd would have to watch.
            out = torch.empty_like(x) if last else stacks.x[index + 1]
            own = _Stacks(*(stack[index] for stack in stacks))
            kept.append(_forward(own, weights, settings, seeds[index], out))
        ctx.save_for_backward(
            seeds, *stacks, *(tensor for layer in kept for tensor in layer), *flat
        )
        ctx.settings, ctx.places = settings, places
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        seeds, *saved = ctx.saved_tensors
        stacks, rest = _Stacks(*saved[:4]), saved[4:]
        count, each = len(seeds), len(_Kept._fields)
        kept = [_Kept(*rest[i * each : (i + 1) * each]) for i in range(count)]
        layers = _by_layer(rest[count * each :])
        wanted = any(ctx.needs_input_grad[4:])
        found = _Gradients(layers, ctx.places)
        grad = grads[0].contiguous()
        for stop in range(count, 0, -TOGETHER):
            start = max(0, stop - TOGETHER)
            part = _Part(stacks, layers[0], ctx.settings, start, stop)
            for index in reversed(range(start, stop)):
                grad = part.backward(
                    index, grad, layers[index], kept[index], ctx.settings, seeds[index]
                )
            if wanted:
                part.write(found.stacks)
        return grad, None, None, None, *found.returned()


def _by_layer(flat: Sequence[Tensor]) -> list[Weights]:
    each = len(Weights._fields)
    return [Weights(*flat[i : i + each]) for i in range(0, len(flat), each)]


def _forward(
    given: _Stacks, weights: Weights, settings: _Settings, seeds: Tensor, out: Tensor
) -> _Kept:
    """A layer: from ``given.x`` to ``out``, the inputs of its products on the way."""
    dropout, gelu = settings.dropout, settings.gelu
    drops = dropout > 0
    x, middle, hidden = given.x, given.middle, given.hidden
    total1, total2 = torch.empty_like(x), torch.empty_like(x)
    kept1, kept2 = (torch.empty_like(x, dtype=torch.int8) if drops else None for _ in range(2))
    qkv = F.linear(x, weights.qkv, weights.qkv_bias)
    attention(qkv, settings.heads, settings.attention_dropout, seeds[:1], out=given.mixed)
    y = F.linear(given.mixed, weights.mix, weights.mix_bias)
    norm = weights.scale1, weights.shift1, settings.eps[0], dropout
    add_norm(x, y, *norm, seeds[1:2], total1, kept1, out=middle)
    before = kept = None
    if _in_product(gelu, x.shape[-1]):
        wide = weights.wide, weights.wide_bias
        linear_relu_dropout(middle, *wide, dropout, seeds[2:3], hidden)
    else:
        before = F.linear(middle, weights.wide, weights.wide_bias)
        kept = torch.empty_like(before, dtype=torch.int8) if gelu and drops else None
        activate(before, gelu, dropout, seeds[2:3], kept, out=hidden)
    y = F.linear(hidden, weights.narrow, weights.narrow_bias)
    norm = weights.scale2, weights.shift2, settings.eps[1], dropout
    add_norm(middle, y, *norm, seeds[3:], total2, kept2, out=out)
    return _Kept(qkv, total1, kept1, before if gelu else None, kept, total2, kept2)


def _in_product(gelu: bool, width: int) -> bool:
    """Whether the product beside an activation and its dropout computes them."""
    return not gelu and fits(width)


class _Part:
    """The backward pass of layers ``start`` to ``stop``, whose weights get their gradients last."""

    def __init__(
        self, stacks: _Stacks, like: Weights, settings: _Settings, start: int, stop: int
    ) -> None:
        self._start, self._layers = start, slice(start, stop)
        self._inputs = _Stacks(*(stack[start:stop] for stack in stacks))
        x = self._inputs.x
        (count, batch, tokens, width), wide = x.shape, like.wide.shape[0]
        sizes = (3 * width, width, wide, width)
        self._grads = _Stacks(*(x.new_empty(count, batch, tokens, size) for size in sizes))
        rows = batch * tokens
        of_norm = norm_sums(rows, width), 3 * width
        self._in_product = _in_product(settings.gelu, width)
        of_wide = relu_sums(rows) if self._in_product else activation_sums(rows), wide
        shapes = ((batch, 3 * width), of_norm, of_wide, of_norm)
        self._sums = [x.new_empty(count, *shape, dtype=torch.float32) for shape in shapes]

    def backward(
        self,
        index: int,
        grad: Tensor,
        weights: Weights,
        kept: _Kept,
        settings: _Settings,
        seeds: Tensor,
    ) -> Tensor:
        """The gradient of layer ``index``'s input, [B, N, D], from that of its output."""
        dropout, own = settings.dropout, index - self._start
        of_qkv, of_mix, of_wide, of_narrow = (stack[own] for stack in self._grads)
        qkv_sums, norm1_sums, wide_sums, norm2_sums = (sums[own] for sums in self._sums)
        norm = weights.scale2, settings.eps[1], dropout, kept.kept2
        grad, _, _ = add_norm_backward(kept.total2, grad, *norm, of_narrow, norm2_sums)
        hidden = self._inputs.hidden[own]
        if self._in_product:
            linear_relu_backward(of_narrow, weights.narrow, hidden, dropout, of_wide, wide_sums)
        else:
            _product(of_narrow, weights.narrow, of_wide)
            saved = hidden if kept.before is None else kept.before
            activation = settings.gelu, dropout, kept.kept
            activate_backward(saved, of_wide, *activation, of_wide, wide_sums)
        _add_product(of_wide, weights.wide, grad)
        after = weights.scale1, settings.eps[0], dropout, kept.kept1
        grad, _, _ = add_norm_backward(kept.total1, grad, *after, of_mix, norm1_sums)
        of_mixed = torch.empty_like(grad)
        _product(of_mix, weights.mix, of_mixed)
        attend = settings.heads, settings.attention_dropout, seeds[:1]
        attention_backward(kept.qkv, of_mixed, *attend, of_qkv, qkv_sums)
        _add_product(of_qkv, weights.qkv, grad)
        return grad

    def write(self, stacks: Weights) -> None:
        """Write the gradients of these layers' weights into those of all layers."""
        out = Weights(*(stack[self._layers] for stack in stacks))
        for grad, given, to in zip(self._grads, self._inputs, out[:4], strict=True):
            torch.bmm(grad.flatten(1, 2).mT, given.flatten(1, 2), out=to)
        of_qkv, of_norm1, of_wide, of_norm2 = self._sums
        sum_stacks(of_qkv, out.qkv_bias)
        sum_stacks(of_wide, out.wide_bias)
        for sums, thirds in (
            (of_norm1, (out.scale1, out.shift1, out.mix_bias)),
            (of_norm2, (out.scale2, out.shift2, out.narrow_bias)),
        ):
            for third, place in zip(sums.chunk(3, dim=2), thirds, strict=True):
                sum_stacks(third, place)


def _product(grad: Tensor, weight: Tensor, out: Tensor) -> None:
    """Write the gradient of a product's input, from that of its output, [B, N, …]."""
    torch.mm(grad.flatten(0, 1), weight, out=out.view(-1, weight.shape[1]))


def _add_product(grad: Tensor, weight: Tensor, out: Tensor) -> None:
    """As `_product`, but add it: within the product, a pass over memory less."""
    out.view(-1, weight.shape[1]).addmm_(grad.flatten(0, 1), weight)


class _Gradients:
    """Gradients of all layers' weights, each kind a stack [L, …], in their places if there are."""

    def __init__(self, layers: Sequence[Weights], places: Places) -> None:
        self._count = len(layers)
        self._placed = all(weight in places for layer in layers for weight in layer)
        kinds = [list(kind) for kind in zip(*layers, strict=True)]
        self._targets = [[places[w] for w in kind] for kind in kinds] if self._placed else []
        stacks = [_as_stack(kind) for kind in self._targets]
        if not self._placed or any(stack is None for stack in stacks):
            stacks = [kind[0].new_empty(len(kind), *kind[0].shape) for kind in kinds]
            self._apart = True
        else:
            self._apart = False
        self.stacks = Weights(*stacks)  # type: ignore[arg-type]

    def returned(self) -> list[Tensor | None]:
        """What autograd is to accumulate, in the order of the weights; nothing that has a place."""
        if not self._placed:
            return [stack[i] for i in range(self._count) for stack in self.stacks]
        if self._apart:
            for places, stack in zip(self._targets, self.stacks, strict=True):
                torch._foreach_copy_(places, list(stack))
        return [None] * (self._count * len(self.stacks))


def _as_stack(tensors: Sequence[Tensor]) -> Tensor | None:
    """Tensors of one shape as one view, [L, *shape], if they lie in memory at equal distances."""
    first = tensors[0]
    starts = [tensor.data_ptr() for tensor in tensors]
    step = (starts[1] - starts[0]) // first.element_size() if len(starts) > 1 else first.numel()
    storage = first.untyped_storage().data_ptr()
    for index, tensor in enumerate(tensors):
        there = tensor.storage_offset() == first.storage_offset() + index * step
        same = tensor.untyped_storage().data_ptr() == storage and tensor.is_contiguous()
        if step < first.numel() or not there or not same:
            return None
    return first.as_strided((len(tensors), *first.shape), (step, *first.stride()))


def encode_training(
    layers: Sequence[EncoderLayer], seeds: Tensor, places: Places, x: Tensor
) -> Tensor:
    """The layers, one after another, with dropout and gradients: [B, N, D] → [B, N, D].

    The layers are alike, their weights of x's type; beyond 128 tokens they compute as they are.
    ``seeds`` are those of each layer's four dropouts, int64 [L, 4] on the device. Gradients of
    weights that all have a place among ``places`` are written there, and autograd sees none.
    """
    if x.shape[1] > MOST_TOKENS:
        for layer in layers:
            x = EncoderLayer.forward(layer, x)
        return x
    first = layers[0]
    settings = _Settings(
        first.self_attn.heads,
        first.self_attn.dropout,
        first.dropout.p,
        first.activation is F.gelu,
        (first.norm1.eps, first.norm2.eps),
    )
    flat = [weight for layer in layers for weight in _weights(layer)]
    return _Encode.apply(x.contiguous(), seeds, settings, places, *flat)
