"""What a device can do: TFLOP/s of bare matrix products, large and of a network's own shapes."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from flowquant.benchmark.flops import Product
from flowquant.benchmark.timing import measure
from flowquant.runtime.cuda_graph import capture

E4M3 = torch.float8_e4m3fn

# Rows and columns of the square matrices, large enough to keep a device busy.
SIDE = {"cuda": 8192, "cpu": 2048}
# Products captured together, so that a GPU does not wait for launches.
TOGETHER = 20


def matrix_ceiling(dtype: torch.dtype, device: torch.device, budget: float) -> dict[str, Any]:
    """TFLOP/s of one large square product, as `shapes_ceiling` returns it."""
    side = SIDE[device.type]
    return shapes_ceiling([Product("square", side, side, side)], dtype, device, budget)


def shapes_ceiling(
    products: Sequence[Product], dtype: torch.dtype, device: torch.device, budget: float
) -> dict[str, Any]:
    """TFLOP/s of each product by itself, and of all together, each as often as it is done.

    ``budget`` is in seconds, ``dtype`` that of the factors and, but for e4m3, the result.
    """
    seconds = [_seconds(product, dtype, device, budget / len(products)) for product in products]
    flops = sum(product.flops for product in products)
    whole = sum(p.times * s for p, s in zip(products, seconds, strict=True))
    return {
        "tflops": flops / whole / 1e12,
        "dtype": str(dtype).removeprefix("torch."),
        "products": [
            asdict(p) | {"tflops": p.flops / p.times / s / 1e12}
            for p, s in zip(products, seconds, strict=True)
        ],
    }


def _seconds(product: Product, dtype: torch.dtype, device: torch.device, budget: float) -> float:
    """Seconds of one of the product's times."""
    draws = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        # Random values: a GPU that multiplies zeros draws less power and runs faster.
        return torch.randn(shape, generator=draws, device=device).to(dtype)

    x, weight = normal(product.rows, product.inner), normal(product.columns, product.inner).t()
    out = torch.empty(product.rows, product.columns, dtype=dtype, device=device)

    one = torch.ones(1, device=device)

    def multiply() -> None:
        if dtype == E4M3:
            torch._scaled_mm(x, weight, one, one, out_dtype=torch.bfloat16, use_fast_accum=True)
        else:
            torch.mm(x, weight, out=out)

    if device.type == "cpu":
        return measure(multiply, device, budget).seconds

    def together() -> None:
        for _ in range(TOGETHER):
            multiply()

    return measure(capture(together).replay, device, budget).seconds / TOGETHER
