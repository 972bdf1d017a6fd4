"""The floating-point operations of a velocity network: of its matrix products, 2·m·k·n each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from flowquant.config.model import ModelConfig
from flowquant.models.model import countable

# The backward pass computes a product's gradients by its input and by its weight.
BACKWARD = 2
# Products of less than this share of a pass tell nothing of how fast it can be.
LEAST_SHARE = 0.01


@dataclass(frozen=True)
class Product:
    """A product [rows, inner] × [inner, columns] that a forward pass does ``times`` times."""

    name: str
    rows: int
    inner: int
    columns: int
    times: int = 1

    @property
    def flops(self) -> int:
        """Operations of all ``times`` together."""
        return 2 * self.rows * self.inner * self.columns * self.times


class _Products(TorchDispatchMode):
    """Counts the products of what is computed under it; a convolution is one over its windows."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[Product] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        aten = torch.ops.aten
        if func in (aten.mm.default, aten.addmm.default):
            left, right = args[-2:]
            self._note("weights", left.shape[0], left.shape[1], right.shape[1])
        elif func in (aten.bmm.default, aten.baddbmm.default):
            left, right = args[-2:]
            self._note("values", left.shape[1], left.shape[2], right.shape[2], left.shape[0])
        elif func is aten.convolution.default:
            kernel, windows = args[1], result.numel() // result.shape[1]
            self._note("weights", windows, kernel[0].numel(), kernel.shape[0])
        return result

    def _note(self, by: str, rows: int, inner: int, columns: int, times: int = 1) -> None:
        self.seen[Product(f"{inner} → {columns}, {by}", rows, inner, columns)] += times


def products(model: ModelConfig, images: int, times: int) -> tuple[Product, ...]:
    """The products of a forward pass of a batch, equal ones as one.

    ``times`` in the batch: one for each image in training, one for all in sampling.
    """
    network, (x, time, condition), few = countable(model, images)
    # Under gradients and by plain mathematics, PyTorch does each product by itself on any device.
    with sdpa_kernel(SDPBackend.MATH), _Products() as counted:
        network.eval()(x, time[:times], condition)
    return tuple(_of_more(product, images, few, n) for product, n in counted.seen.items())


def _of_more(product: Product, images: int, few: int, times: int) -> Product:
    """A product of ``few`` images, done ``times`` times, as it is done for ``images``."""
    if product.name.endswith("weights"):
        return replace(product, rows=product.rows * images // few, times=times)
    return replace(product, times=times * images // few)


def large_products(model: ModelConfig, images: int) -> tuple[Product, ...]:
    """Those by weights that a forward pass of ``images`` images spends its time on."""
    found = products(model, images, 1)
    least = LEAST_SHARE * sum(product.flops for product in found)
    return tuple(p for p in found if p.name.endswith("weights") and p.flops >= least)


def forward_flops(model: ModelConfig, images: int, times: int) -> int:
    """Operations of a forward pass of a batch; what is no matrix product is not counted.

    ``times`` are those of `products`.
    """
    return sum(product.flops for product in products(model, images, times))


def step_flops(model: ModelConfig, batch: int) -> int:
    """Operations of a training step: the backward pass takes twice those of the forward pass."""
    return (1 + BACKWARD) * forward_flops(model, batch, batch)
