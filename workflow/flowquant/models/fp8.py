"""Encoder layers whose products are of e4m3, FP8 with three bits of mantissa, for inference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowquant.models.kernels.attention import MOST_TOKENS, attention
from flowquant.models.kernels.cast import Cast, cast
from flowquant.models.kernels.linear import linear_activate
from flowquant.models.kernels.norm import add_norm
from flowquant.models.kernels.relu import relu_
from flowquant.models.transformer import Encoder, EncoderLayer

Activation = Callable[[Tensor], Tensor]
E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max
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


class Dense(Protocol):
    """A weight that is no tensor, but packed."""

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
    is [in] or [out, in], ``weight`` [] or [out].
    """

    largest: Tensor
    total: Tensor
    weight: Tensor

    def add(self, x: Tensor, slope: Tensor | None = None) -> None:
        """Of [..., in], with the slope [..., out] at what the product makes of them."""
        rows = x.flatten(0, -2)
        self.largest = torch.maximum(self.largest, rows.abs().max().float())
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
    """

    def __init__(
        self,
        weight: Tensor | Dense,
        bias: Tensor,
        largest: float,
        saturated: Tensor,
        mean: Tensor | None = None,
    ) -> None:
        values = weight if isinstance(weight, Tensor) else weight.dense(torch.float32)
        values = values.float()
        by = _scale(values.abs().max().item())
        inputs = _scale(largest * HEADROOM)
        rounded = (values / by).to(E4M3)

        def one(value: float) -> Tensor:
            return torch.full((1,), value, device=values.device)

        self.bias = bias
        if mean is not None:
            change = ((values - rounded.float() * by) * mean).sum(1)
            self.bias = (bias.float() + change).to(bias.dtype)
        self.scales = one(inputs), one(by)
        self.scale = one(inputs * by)
        self.cast = Cast(one(1 / inputs), saturated)
        self._weight: Tensor | Dense = weight
        if isinstance(weight, Tensor):
            self._weight = rounded
        else:
            weight.factor = one(1 / by)

    @property
    def weight(self) -> Tensor:
        """e4m3 [out, in], until another product's is asked for."""
        weight = self._weight
        return weight if isinstance(weight, Tensor) else weight.dense(E4M3)

    def __call__(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """e4m3 [..., in] → [..., out] of the bias's type, or of ``dtype``."""
        product = torch._scaled_mm(
            x.flatten(0, -2),
            self.weight.t(),
            *self.scales,
            bias=self.bias,
            out_dtype=dtype or self.bias.dtype,
            use_fast_accum=x.is_cuda,
        )
        return product.view(*x.shape[:-1], -1)

    def scaled_for(self, how: Cast) -> Product:
        """The same whose result is multiplied for a cast already, exactly: by a power of two.

        PyTorch's own argument for this, ``scale_result``, is ignored by some releases, 2.10 the
        first of them.
        """
        scaled = copy(self)
        scaled.scale = self.scale * how.inverse
        scaled.scales = self.scales[0] * how.inverse, self.scales[1]
        scaled.bias = (self.bias * how.inverse).to(self.bias.dtype)
        return scaled


def _scale(largest: float) -> float:
    """The power of two by which values up to ``largest`` fit e4m3."""
    return 2.0 ** math.ceil(math.log2(largest / LARGEST)) if largest > 0 else 1.0


@dataclass(frozen=True)
class Fp8Layer:
    """An encoder layer and its four products, in the order of their use.

    ``widen`` is scaled for ``narrow`` before a ReLU, which is a pass of its own over what PyTorch's
    product wrote: together they outrun a kernel of ours that ends in ReLU.
    """

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
        wide, how = self.widen, self.narrow.cast
        if layer.activation is F.relu:
            hidden = relu_(wide(inner, E4M3), how.saturated)
        else:
            hidden = linear_activate(inner, wide.weight, wide.bias, wide.scale, True, how)
        y = self.narrow(hidden)
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
            device = module.norm1.weight.device
            width, wide = module.linear2.weight.shape
            shapes: list[tuple[int, ...]] = [(width,), (width,), (wide, width), (wide,)]
            found[module] = [
                Inputs(*(torch.zeros(of, device=device) for of in ((), shape, shape[:-1])))
                for shape in shapes
            ]
            before = None, None, module.activation, None
            for part, seen, activation in zip(read, found[module], before, strict=True):
                hooks.append(part.register_forward_hook(partial(note, seen, activation)))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _slope(activation: Activation, x: Tensor) -> Tensor:
    """Of an activation at x, float32."""
    x = x.float()
    return (activation(x + BESIDE) - activation(x - BESIDE)) / (2 * BESIDE)


def unfuse(network: nn.Module) -> None:
    """Let encoders and their layers compute as they are written."""
    for module in network.modules():
        if isinstance(module, Encoder | EncoderLayer):
            vars(module).pop("forward", None)


def fuse_fp8(network: nn.Module, inputs: dict[EncoderLayer, list[Inputs]]) -> tuple[int, Tensor]:
    """Make a fused network's encoder layers compute in FP8, those that fit and have finite inputs.

    Args:
        network: In bfloat16, fused.
        inputs: What was `observed`.

    Returns:
        How many layers do, and the count of saturated values, int32 [1].
    """
    device = next(network.parameters()).device
    saturated = torch.zeros(1, dtype=torch.int32, device=device)
    count = 0
    for encoder in network.modules():
        if not isinstance(encoder, Encoder):
            continue
        layers: list[Fp8Layer | None] = []
        for layer in encoder.layers:
            assert isinstance(layer, EncoderLayer)
            ranges = [seen.largest.item() for seen in inputs[layer]]
            if not fits(layer) or not all(math.isfinite(value) for value in ranges):
                layers.append(None)
                continue
            attend = layer.self_attn
            parts = attend.out_proj, layer.linear1, layer.linear2
            weights = (
                (attend.in_proj_weight, attend.in_proj_bias),
                *((part.weight, part.bias) for part in parts),
            )
            project, mix, widen, narrow = (
                Product(weight, bias, largest, saturated, seen.mean)
                for (weight, bias), largest, seen in zip(
                    weights, ranges, inputs[layer], strict=True
                )
            )
            if layer.activation is F.relu:
                widen = widen.scaled_for(narrow.cast)
            layers.append(Fp8Layer(layer, project, mix, widen, narrow))
            count += 1
        encoder.forward = partial(encode, encoder, layers)  # type: ignore[method-assign]
    return count, saturated
