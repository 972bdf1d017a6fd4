"""A network's weights quantized so that its layers' outputs, not their values, err least."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from flowquant.config.compensation import CompensationConfig
from flowquant.config.method import MethodConfig
from flowquant.config.model import FlowConfig, ModelConfig
from flowquant.models.damping import IndefiniteError, damped, solved
from flowquant.models.gram import Gram
from flowquant.models.model import load_network
from flowquant.models.path import velocity
from flowquant.quantization.apply import (
    as_float,
    check_widths,
    one_thread_each,
    quantize_tensor,
    quantize_together,
    within_range,
)
from flowquant.quantization.codebook import Codebook, worthwhile
from flowquant.quantization.compensation import compensated
from flowquant.quantization.hessians import Hessians, Moments, never_reached
from flowquant.quantization.inputs import Inputs, Product
from flowquant.runtime.errors import UserError

# Times the spread of its values that a layer's inputs may differ by from one batch to another.
SAME = 1e-3


@dataclass(frozen=True)
class Layer:
    """A layer quantized: its weight, and its bias, which takes over the error's mean, if any."""

    weight: Codebook
    bias: Tensor | None


def bias_of(name: str, weights: Mapping[str, Tensor]) -> str | None:
    """The name of the bias that is added to what a weight makes, if there is one."""
    bias = name.removesuffix("weight") + "bias"
    shape = weights[name].shape[:1]
    return bias if bias in weights and weights[bias].shape == shape else None


def compensated_layer(
    name: str,
    weights: Mapping[str, Tensor],
    moments: Moments,
    start: Codebook,
    damping: float,
) -> Layer:
    """A layer quantized by itself, its inputs those of the full-precision network.

    Args:
        name: The weight's name.
        weights: The network's, float32 by name.
        moments: Those of its inputs, on its device.
        start: The weight's codebook by rounding alone.
        damping: As in `compensated`.

    Raises:
        IndefiniteError: as `compensated`.
        OverflowError: as `compensated`.
    """
    weight, bias = weights[name], bias_of(name, weights)
    if bias is None:
        return Layer(compensated(weight, moments.hessian, start, damping), None)
    book = compensated(weight, moments.centred, start, damping)
    error = (weight - book.expand()).flatten(1)
    return Layer(book, weights[bias] + error @ moments.mean)


def compensate_weights(
    where: object,
    weights: Mapping[str, Tensor],
    config: ModelConfig,
    method: MethodConfig,
    widths: Mapping[str, float],
    settings: CompensationConfig,
    hessians: Hessians,
) -> dict[str, Codebook | Tensor]:
    """Quantize the float32 weights that have a width, as `quantize_weights`, with compensation.

    Args:
        where: The model's file, for errors.
        weights: All of the network's, on the device to compute on.
        config: The network.
        method: The quantizer.
        widths: Bits a value by weight.
        settings: How to compensate.
        hessians: Of this network, anywhere.

    Raises:
        UserError: if a weight has no inputs at the points, a Hessian cannot be used, a value is
            beyond the range of its stored type, or vectors do not fit.
    """
    _check_shared(where, method)
    check_widths(where, weights, method, widths)
    device = next(iter(weights.values())).device
    bar: tqdm[Any] = tqdm(
        total=len(widths), desc="compensating", unit="tensor", leave=False, disable=None
    )
    with bar, usable(where):
        start = _starts(weights, method, widths)
        if settings.sequential:
            network = load_network(weights, config)
            work = _InSequence(where, weights, start, widths, settings.damping, bar)
            points = [part.to(device) for part in hessians.points]
            layers = work.run(network, config.flow, points)
        else:

            def compensate(name: str) -> Layer:
                moments = hessians.of(where, name).to(device)
                return compensated_layer(name, weights, moments, start(name), settings.damping)

            layers = {}
            with (
                one_thread_each() as threads,
                # A GPU's launches only get in each other's way.
                ThreadPoolExecutor(1 if device.type == "cuda" else threads) as pool,
            ):
                for name, layer in zip(widths, pool.map(compensate, widths), strict=True):
                    layers[name] = layer
                    bar.update()
        return stored(weights, layers, method)


def _starts(
    weights: Mapping[str, Tensor], method: MethodConfig, widths: Mapping[str, float]
) -> Callable[[str], Codebook]:
    """The codebook by rounding alone of a weight, by name: common ones are all made beforehand."""
    if method.granularity != "network" or not widths:
        return lambda name: quantize_tensor(weights[name], method, widths[name])
    names = [name for name in weights if name in widths]
    books = quantize_together([weights[name] for name in names], method, widths[names[0]])
    return dict(zip(names, books, strict=True)).__getitem__


def _check_shared(where: object, method: MethodConfig) -> None:
    """Refuse vectors of a row's own, of which there are too few to fit any."""
    if method.vector > 1 and not method.shared:
        raise UserError(
            where,
            found=f"compensation with vectors by `{method.granularity}`",
            expected="vectors that all rows of a matrix share",
            remedy="Set `granularity: scaled`.",
        )


def stored(
    weights: Mapping[str, Tensor], layers: Mapping[str, Layer], method: MethodConfig
) -> dict[str, Codebook | Tensor]:
    """What is written of all weights, some of whose layers are quantized.

    Raises:
        OverflowError: if a value is beyond the range of ``float_dtype``.
    """
    biases = {bias_of(name, weights): layer.bias for name, layer in layers.items()}
    contents = worthwhile({name: layer.weight for name, layer in layers.items()})
    for name, tensor in weights.items():
        if name not in layers:
            bias = biases.get(name)
            contents[name] = as_float(name, tensor if bias is None else bias, method)
    return {name: contents[name] for name in weights}


@contextmanager
def usable(where: object) -> Iterator[None]:
    """Make messages of a Hessian that cannot be used and of values beyond their stored type.

    Raises:
        UserError: in place of the block's `IndefiniteError` or `OverflowError`.
    """
    try:
        with within_range(where):
            yield
    except IndefiniteError as error:
        raise UserError(
            where,
            found=str(error),
            expected="one that is, once it is damped",
            remedy="Raise `compensate.damping` or `compensate.points`.",
        ) from error


@dataclass
class _InSequence:
    """Layers quantized one after the other, while the network runs.

    It runs once, with every point twice: the first half of each batch stays what full precision
    makes of it, the second goes through the layers quantized so far. A layer that is reached is
    quantized such that W_q·x of the second half comes near to W·x of the first, so it makes up
    for the errors of layers before it, too: least squares say what values would do best in its
    place, W·E[x_full·xᵀ]·H⁻¹ with H = E[x·xᵀ], and those are rounded under H (as Li et al., GPTAQ,
    arXiv 2504.02692).
    """

    where: object
    weights: Mapping[str, Tensor]
    start: Callable[[str], Codebook]
    widths: Mapping[str, float]
    damping: float
    bar: tqdm[Any]
    layers: dict[str, Layer] = field(default_factory=dict)
    shifts: dict[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def run(
        self, network: nn.Module, flow: FlowConfig, points: Sequence[Tensor]
    ) -> dict[str, Layer]:
        """The layers by their weights' names.

        Args:
            network: With the weights, float32.
            flow: Its flow.
            points: States, times and conditions, on its device.
        """
        watched = {name: p for name, p in network.named_parameters() if name in self.widths}
        with Inputs(watched, self._halves):
            velocity(network, flow, *(torch.cat([part[:2]] * 2) for part in points))
        with Inputs(watched, self._quantize):
            velocity(network, flow, *(torch.cat([part] * 2) for part in points))
        if missed := sorted(self.widths.keys() - self.layers.keys()):
            raise never_reached(self.where, missed)
        return self.layers

    def _halves(self, product: Product) -> None:
        """Refuse a network whose layers do not keep the points of a batch one after the other."""
        x = product.input
        half, odd = divmod(x.shape[product.axis], 2)
        first, second = (x.narrow(product.axis, start, half) for start in (0, half))
        near = SAME * float(x.abs().max())
        if odd or not first.allclose(second, rtol=0, atol=near):
            raise UserError(
                self.where,
                found=f"a network that mixes the points of a batch ahead of {product.weight}",
                expected="the batch on the first axis of all inputs",
                remedy="Set `compensate.sequential: false`.",
            )

    def _quantize(self, product: Product) -> Tensor:
        """What a layer makes of both halves, the second by the quantized weight."""
        name = product.weight
        full, own = product.input.chunk(2, product.axis)
        if name not in self.layers:
            self._compensate(product, full, own)
        made = product.result(full), product.result(own, self.layers[name].weight.expand())
        if (shift := self.shifts.get(name)) is not None:
            made[1].add_(product.each(shift))
        return torch.cat(made, product.axis)

    def _compensate(self, product: Product, full: Tensor, own: Tensor) -> None:
        name = product.weight
        weight, bias = self.weights[name].flatten(1), bias_of(name, self.weights)
        n = weight.shape[1]
        squares, count, means = Gram(n, weight.device), 0, weight.new_zeros(2, n)
        # E[W·(x − y)·yᵀ], or what W is yet to be multiplied by: whichever takes less.
        thin = 2 * len(weight) < n
        drift = weight.new_zeros(len(weight) if thin else n, n)
        for x, y in zip(product.rows(full), product.rows(own), strict=True):
            squares.add(y)
            if product.groups == 1:
                apart = (x - y) @ weight.T if thin else x - y
                drift.addmm_(apart.T, y)
            means += torch.stack([x.sum(0), y.sum(0)])
            count += len(x)
        hessian, means = squares.total / count, means / count
        drift = (drift if thin else weight @ drift) / count
        if bias is not None:
            hessian -= torch.outer(means[1], means[1])
            drift -= torch.outer(weight @ (means[0] - means[1]), means[1])
        target = None
        if product.groups == 1:
            target = weight + solved(damped(hessian, self.damping), drift.T).T
        start = self.start(name)
        with one_thread_each():
            book = compensated(self.weights[name], hessian, start, self.damping, target)
        self.layers[name] = Layer(book, None)
        if bias is not None:
            self.shifts[name] = weight @ means[0] - book.expand().flatten(1) @ means[1]
            self.layers[name] = Layer(book, self.weights[bias] + self.shifts[name])
        self.bar.update()
