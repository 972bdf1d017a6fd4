"""A quantization method, and its application to a model's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import torch
from torch import Tensor

from flowquant.codebook import Codebook, group_size, with_levels
from flowquant.levels import QUANTIZERS
from flowquant.model import ModelConfig
from flowquant.network import linear_weights

DTYPES = {"float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True)
class MethodConfig:
    """A quantization method (a row under ``methods`` in the configuration).

    ``scope``: every parameter, or only the weights of linear layers and convolutions; less those
    that a pattern of ``keep`` matches (``*`` matches anything) or that hold fewer than
    ``least_values`` values. ``levels_dtype`` and ``float_dtype``: how levels, and the tensors
    that are not quantized, are stored.
    """

    levels: str
    granularity: str
    scope: Literal["all", "linear"]
    keep: tuple[str, ...]
    least_values: int
    levels_dtype: Literal["float16", "float32"] = "float32"
    float_dtype: Literal["float16", "float32"] = "float32"


def quantize_tensor(tensor: Tensor, method: MethodConfig, bits: int) -> Codebook:
    """Quantize one tensor with at most 2^bits levels for each of its groups.

    Raises:
        OverflowError: if a level is beyond the range of ``levels_dtype``.
    """
    shape = tuple(tensor.shape)
    groups = tensor.reshape(-1, group_size(shape, method.granularity))
    levels, indices = QUANTIZERS[method.levels](groups, 2**bits)
    return with_levels(Codebook(levels, indices, shape).compact(), DTYPES[method.levels_dtype])


def selected(weights: Mapping[str, Tensor], config: ModelConfig, method: MethodConfig) -> set[str]:
    """Names of the weights that the method quantizes."""
    scope = set(weights) if method.scope == "all" else linear_weights(config.build_empty())
    return {
        name
        for name, tensor in weights.items()
        if name in scope
        and tensor.numel() >= method.least_values
        and not any(fnmatchcase(name, pattern) for pattern in method.keep)
    }


def quantize_weights(
    weights: Mapping[str, Tensor], method: MethodConfig, widths: Mapping[str, int | None]
) -> dict[str, Codebook | Tensor]:
    """Quantize the weights that have a width; the others stay float, in ``float_dtype``.

    A codebook that would take more room than the values it stands for is stored as those values.

    Raises:
        OverflowError: if a value is beyond the range of its stored type.
    """

    def store(name: str) -> Codebook | Tensor:
        bits = widths.get(name)
        if bits is None:
            return as_float(name, weights[name], method)
        codebook = quantize_tensor(weights[name], method, bits)
        return codebook if codebook.worth_packing else codebook.expand().to(codebook.levels.dtype)

    # One tensor a thread: much of the work is NumPy's, which uses one core for each.
    with _one_thread_each() as threads, ThreadPoolExecutor(threads) as pool:
        return dict(zip(weights, pool.map(store, weights), strict=True))


def as_float(name: str, tensor: Tensor, method: MethodConfig) -> Tensor:
    """A tensor that stays float, as it is stored.

    Raises:
        OverflowError: if a value is beyond the range of ``float_dtype``.
    """
    stored = tensor.to(DTYPES[method.float_dtype])
    if not stored.isfinite().all():
        raise OverflowError(f"{name} with values up to {tensor.abs().max():g}")
    return stored


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """As many threads as torch may use, each of which uses one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
