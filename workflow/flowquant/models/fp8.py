"""Encoder layers whose products are of e4m3, FP8 with three bits of mantissa, for inference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowquant.models.e4m3 import E4M3, Covariance, power_of_two, rounded, rounded_in_order
from flowquant.models.kernels.attention import MOST_TOKENS, attention
from flowquant.models.kernels.cast import Cast, cast
from flowquant.models.kernels.linear import linear_activate
from flowquant.models.kernels.norm import add_norm
from flowquant.models.transformer import Encoder, EncoderLayer

Activation = Callable[[Tensor], Tensor]
# How far beyond what was seen a product's inputs may go before they saturate. e4m3 is as exact
# there: its steps are of a value's own size.
HEADROOM = 2
# What products of FP8 need the sizes of a matrix to be multiples of.
MULTIPLE = 16
# An activation's slope is taken over so much of its input, to both sides.
BESIDE = 2**-8
# Of an output that an activation never passes on, no mean is made of almost nothing.
LEAST_WEIGHT = 1e-3
# For fewer tokens, FP8 saves nothing: launches take the time.
LEAST_TOKENS = 129
# Of more inputs a covariance takes too much memory and time for what it is worth.
MOST_INPUTS = 8192
# An encoder's first layers stay as they are: more than half of what FP8 costs in quality is their
# inputs' rounding (docs/results.md, "What FP8 rounds away").
KEPT = 2


class Dense(Protocol):
    """A weight that is no tensor, but packed."""

    shape: tuple[int, ...]
    factor: Tensor | None

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The weight for now; as e4m3, times ``factor``."""
        ...


@dataclass
class Inputs:
    """What was seen of a product's inputs: the largest magnitude [], and the mean of each channel.

    Before an activation, errors count where it passes them on: each output has a mean of its own,
    of inputs weighted by the square of the activation's slope, by which the squared error of what
    is passed on is least. (Slopes themselves, which GELU has of both signs, may cancel.) ``total``
    is [in] or [out, in], ``weight`` [] or [out]. The covariance is for weights that can be rounded
    under it.
    """

    largest: Tensor
    total: Tensor
    weight: Tensor
    covariance: Covariance | None = None

    def add(self, x: Tensor, slope: Tensor | None = None) -> None:
        """Of [..., in], with the slope [..., out] at what the product makes of them."""
        rows = x.flatten(0, -2)
        self.largest = torch.maximum(self.largest, rows.abs().max().float())
        if self.covariance is not None:
            self.covariance.add(rows)
        if slope is None:
            self.total += rows.sum(0, dtype=torch.float32)
            self.weight += len(rows)
        else:
            passed = slope.flatten(0, -2).square()
            self.total += passed.to(rows.dtype).t() @ rows
            self.weight += passed.sum(0)

    @property
    def mean(self) -> Tensor:
        """[in] or [out, in]; 0 where nothing passed."""
        return self.total / self.weight.clamp(min=LEAST_WEIGHT).unsqueeze(-1)


class Product:
    """x·Wᵀ + b with x and W in e4m3, each with a scale of its own, a power of two.

    Args:
        weight: [out, in]; a packed one stays so, and is expanded to e4m3 as needed.
        bias: [out].
        largest: Magnitude of what was seen of x.
        saturated: Counts what is beyond x's scale, int32 [1].
        mean: Of x, [in] or for each output [out, in]: the bias makes up for what W's rounding
            changes on average.
        in_e4m3: W ÷ `scale_of` it as e4m3, if not the nearest values.
    """

    def __init__(
        self,
        weight: Tensor | Dense,
        bias: Tensor,
        largest: float,
        saturated: Tensor,
        mean: Tensor | None = None,
        in_e4m3: Tensor | None = None,
    ) -> None:
        values = weight if isinstance(weight, Tensor) else weight.dense(torch.float32)
        values = values.float()
        by = scale_of(values)
        inputs = power_of_two(largest * HEADROOM)
        if in_e4m3 is None:
            in_e4m3 = rounded(values, by)

        def one(value: float) -> Tensor:
            return torch.full((1,), value, device=values.device)

        self.bias = bias
        if mean is not None:
            change = ((values - in_e4m3.float() * by) * mean).sum(1)
            self.bias = (bias.float() + change).to(bias.dtype)
        self.scales = one(inputs), one(by)
        self.scale = one(inputs * by)
        self.cast = Cast(one(1 / inputs), saturated)
        self._weight: Tensor | Dense = weight
        if isinstance(weight, Tensor):
            self._weight = in_e4m3
        else:
            weight.factor = one(1 / by)

    @property
    def weight(self) -> Tensor:
        """e4m3 [out, in], until another product's is asked for."""
        weight = self._weight
        return weight if isinstance(weight, Tensor) else weight.dense(E4M3)

    def __call__(self, x: Tensor) -> Tensor:
        """e4m3 [..., in] → [..., out] of the bias's type."""
        product = torch._scaled_mm(
            x.flatten(0, -2),
            self.weight.t(),
            *self.scales,
            bias=self.bias,
            out_dtype=self.bias.dtype,
            use_fast_accum=x.is_cuda,
        )
        return product.view(*x.shape[:-1], -1)


def scale_of(weight: Tensor) -> float:
    """The power of two by which a weight fits e4m3."""
    return power_of_two(weight.abs().max().item())


@dataclass(frozen=True)
class Fp8Layer:
    """An encoder layer and its four products, in the order of their use."""

    layer: EncoderLayer
    project: Product
    mix: Product
    widen: Product
    narrow: Product

    def encode(
        self, x: Tensor, as_e4m3: Tensor | None, following: Fp8Layer | None
    ) -> tuple[Tensor, Tensor | None]:
        """`EncoderLayer.forward` of x, bfloat16 and as e4m3, to the same for the layer after it."""
        layer = self.layer
        if as_e4m3 is None:
            as_e4m3 = cast(x, self.project.cast)
        qkv = self.project(as_e4m3)
        y = self.mix(attention(qkv, layer.self_attn.heads, how=self.mix.cast))
        norm, inner = layer.norm1, torch.empty_like(x, dtype=E4M3)
        settings = norm.weight, norm.bias, norm.eps
        x = add_norm(x, y, *settings, cast_out=inner, how=self.widen.cast)
        wide, gelu = self.widen, layer.activation is not F.relu
        y = self.narrow(
            linear_activate(inner, wide.weight, wide.bias, wide.scale, gelu, self.narrow.cast)
        )
        norm = layer.norm2
        settings = norm.weight, norm.bias, norm.eps
        if following is None:
            return add_norm(x, y, *settings), None
        after = torch.empty_like(x, dtype=E4M3)
        return add_norm(x, y, *settings, cast_out=after, how=following.project.cast), after


def encode(encoder: Encoder, layers: Sequence[Fp8Layer | None], x: Tensor) -> Tensor:
    """`Encoder.forward` with those layers in FP8 that have products in it."""
    if x.shape[1] > MOST_TOKENS or x.shape[0] * x.shape[1] < LEAST_TOKENS:
        return Encoder.forward(encoder, x)
    as_e4m3 = None
    for index, layer in enumerate(layers):
        if layer is None:
            x, as_e4m3 = encoder.layers[index](x), None
        else:
            following = layers[index + 1] if index + 1 < len(layers) else None
            x, as_e4m3 = layer.encode(x, as_e4m3, following)
    return x


def fits(layer: EncoderLayer) -> bool:
    """Whether products in FP8 take the sizes of all of a layer's matrices."""
    sizes = *layer.self_attn.in_proj_weight.shape, *layer.linear1.weight.shape
    return all(size % MULTIPLE == 0 for size in sizes)


@contextmanager
def observed(network: nn.Module) -> Iterator[dict[EncoderLayer, list[Inputs]]]:
    """What the inputs of each encoder layer's products are like, by the block's end.

    In the block encoder layers compute as they are written.
    """
    found: dict[EncoderLayer, list[Inputs]] = {}
    hooks = []

    def note(seen: Inputs, activation: Activation | None, *call: Any) -> None:
        _, (x, *_), out = call
        seen.add(x, None if activation is None else _slope(activation, out))

    unfuse(network)
    for module in network.modules():
        if isinstance(module, EncoderLayer):
            attend = module.self_attn
            read = attend, attend.out_proj, module.linear1, module.linear2
            before = None, None, module.activation, None
            found[module] = []
            for part, (weight, _), activation in zip(read, _parts(module), before, strict=True):
                seen = _nothing_seen(weight, module.norm1.weight.device, activation is not None)
                found[module].append(seen)
                hooks.append(part.register_forward_hook(partial(note, seen, activation)))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _parts(layer: EncoderLayer) -> list[tuple[Tensor | Dense, Tensor]]:
    """The weights and biases of a layer's products, in the order of their use."""
    attend = layer.self_attn
    parts = attend.out_proj, layer.linear1, layer.linear2
    first = attend.in_proj_weight, attend.in_proj_bias
    return [first, *((part.weight, part.bias) for part in parts)]


def _nothing_seen(weight: Tensor | Dense, device: torch.device, each: bool) -> Inputs:
    """Of a weight's inputs; ``each`` output is to have a mean of its own."""
    shape = tuple(weight.shape) if each else (weight.shape[1],)
    largest, total, count = (torch.zeros(of, device=device) for of in ((), shape, shape[:-1]))
    # A packed weight has the values that its file has.
    fits = isinstance(weight, Tensor) and weight.shape[1] <= MOST_INPUTS
    return Inputs(largest, total, count, Covariance(weight.shape[1], device) if fits else None)


def _slope(activation: Activation, x: Tensor) -> Tensor:
    """Of an activation at x, float32."""
    x = x.float()
    return (activation(x + BESIDE) - activation(x - BESIDE)) / (2 * BESIDE)


def unfuse(network: nn.Module) -> None:
    """Let encoders and their layers compute as they are written."""
    for module in network.modules():
        if isinstance(module, Encoder | EncoderLayer):
            vars(module).pop("forward", None)


@dataclass(frozen=True)
class InFp8:
    """What computes in FP8.

    Attributes:
        layers: How many encoder layers do.
        kept: How many do not, for quality's sake.
        saturated: Counts saturated values, int32 [1].
        encoders: All of the network, whose forward passes choose between the two.
    """

    layers: int
    kept: int
    saturated: Tensor
    encoders: Sequence[Encoder]

    @contextmanager
    def off(self) -> Iterator[None]:
        """Let all compute in bfloat16 in the block."""
        inside = [vars(encoder).pop("forward") for encoder in self.encoders]
        try:
            yield
        finally:
            for encoder, forward in zip(self.encoders, inside, strict=True):
                encoder.forward = forward  # type: ignore[method-assign]


def fuse_fp8(network: nn.Module, inputs: dict[EncoderLayer, list[Inputs]]) -> InFp8:
    """Make a fused network's encoder layers compute in FP8, those that fit and have finite inputs.

    Args:
        network: In bfloat16, fused.
        inputs: What was `observed`.
    """
    saturated = torch.zeros(1, dtype=torch.int32, device=next(network.parameters()).device)
    encoders = [module for module in network.modules() if isinstance(module, Encoder)]
    kept = {layer for encoder in encoders for layer in _kept(encoder)}
    able = {
        layer: seen
        for layer, seen in inputs.items()
        if layer not in kept and _computes(layer, seen)
    }
    in_e4m3 = _in_order(able)
    for encoder in encoders:
        layers: list[Fp8Layer | None] = []
        for layer in encoder.layers:
            assert isinstance(layer, EncoderLayer)
            if layer not in able:
                layers.append(None)
                continue
            products = (
                Product(weight, bias, seen.largest.item(), saturated, seen.mean, own)
                for (weight, bias), seen, own in zip(
                    _parts(layer), able[layer], in_e4m3[layer], strict=True
                )
            )
            layers.append(Fp8Layer(layer, *products))
        encoder.forward = partial(encode, encoder, layers)  # type: ignore[method-assign]
    return InFp8(len(able), len(kept), saturated, encoders)


def _kept(encoder: Encoder) -> list[nn.Module]:
    """The layers that stay in bfloat16; none, if that would be all."""
    return list(encoder.layers[:KEPT]) if len(encoder.layers) > KEPT else []


def _computes(layer: EncoderLayer, inputs: Sequence[Inputs]) -> bool:
    return fits(layer) and all(math.isfinite(seen.largest.item()) for seen in inputs)


def _in_order(
    inputs: Mapping[EncoderLayer, Sequence[Inputs]],
) -> dict[EncoderLayer, list[Tensor | None]]:
    """Each product's weight as e4m3, rounded under its inputs' covariance; none without one."""
    found: dict[EncoderLayer, list[Tensor | None]] = {
        layer: [None] * len(seen) for layer, seen in inputs.items()
    }
    alike: dict[tuple[int, torch.Size], list[tuple[EncoderLayer, Tensor, Covariance]]] = {}
    for layer, seen in inputs.items():
        for index, ((weight, _), each) in enumerate(zip(_parts(layer), seen, strict=True)):
            if isinstance(weight, Tensor) and each.covariance is not None:
                entry = layer, weight.float(), each.covariance
                alike.setdefault((index, weight.shape), []).append(entry)
    for (index, _), entries in alike.items():
        layers, weights, covariances = zip(*entries, strict=True)
        by, values = [scale_of(weight) for weight in weights], [seen.value for seen in covariances]
        for layer, weight in zip(layers, rounded_in_order(weights, by, values), strict=True):
            found[layer][index] = weight
    return found
