"""A quantization method, and its application to a model's weights."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import count

import torch
from torch import Tensor
from tqdm import tqdm

from flowquant.config.method import MethodConfig
from flowquant.config.model import ModelConfig
from flowquant.models.family import matrices
from flowquant.models.model import empty_network
from flowquant.quantization.codebook import Codebook, group_size, with_levels
from flowquant.quantization.levels import QUANTIZERS
from flowquant.quantization.lloyd import FEW_GROUPS
from flowquant.quantization.own_levels import own_quantizer
from flowquant.runtime.errors import UserError

# Values quantized in one call on a GPU, to bound memory.
MOST_VALUES = 1 << 24
DTYPES = {"float16": torch.float16, "float32": torch.float32}


def quantize_tensor(tensor: Tensor, method: MethodConfig, bits: int) -> Codebook:
    """Quantize one tensor with at most 2^bits levels for each of its groups.

    Raises:
        OverflowError: if a level is beyond the range of ``levels_dtype``.
    """
    return _quantize_alike([tensor], method, bits)[0]


def _quantize_alike(tensors: Sequence[Tensor], method: MethodConfig, bits: int) -> list[Codebook]:
    """Quantize tensors whose groups are of one size in one call."""
    size = group_size(tuple(tensors[0].shape), method.granularity)
    groups = [tensor.reshape(-1, size) for tensor in tensors]
    counts = [len(part) for part in groups]
    quantizer = QUANTIZERS.get(method.levels) or own_quantizer(method.levels)
    levels, indices = quantizer(torch.cat(groups), 2**bits)
    return [
        with_levels(
            Codebook(own_levels, own_indices, tuple(tensor.shape)).compact(),
            DTYPES[method.levels_dtype],
        )
        for tensor, own_levels, own_indices in zip(
            tensors, levels.split(counts), indices.split(counts), strict=True
        )
    ]


def selected(weights: Mapping[str, Tensor], config: ModelConfig, method: MethodConfig) -> set[str]:
    """Names of the weights that the method quantizes."""
    scope = set(weights) if method.scope == "all" else matrices(empty_network(config))
    return chosen(weights, scope, method)


def chosen(weights: Mapping[str, Tensor], scope: set[str], method: MethodConfig) -> set[str]:
    """Names of the weights in ``scope`` that the method quantizes: floats, enough and not kept."""
    return {
        name
        for name, tensor in weights.items()
        if name in scope
        and tensor.is_floating_point()
        and tensor.numel() >= method.least_values
        and not any(fnmatchcase(name, pattern) for pattern in method.keep)
    }


def quantize_weights(
    weights: Mapping[str, Tensor], method: MethodConfig, widths: Mapping[str, int | None]
) -> dict[str, Codebook | Tensor]:
    """Quantize the float32 weights that have a width; the others stay as `as_float` has them.

    ``widths`` are bits of an index; None or absent: the tensor stays float. A codebook that would
    take more room than the values it stands for is stored as those values. On a terminal a bar
    shows how far it is.

    Raises:
        OverflowError: if a value is beyond the range of its stored type.
    """

    def store(names: Sequence[str]) -> list[Codebook | Tensor]:
        bits = widths.get(names[0])
        if bits is None:
            return [as_float(name, weights[name], method) for name in names]
        return [
            book if book.worth_packing else book.expand().to(book.levels.dtype)
            for book in _quantize_alike([weights[name] for name in names], method, bits)
        ]

    together = any(tensor.is_cuda for tensor in weights.values())
    batches = _batches(weights, method, widths, together)
    # One batch a thread: much of the work is NumPy's, which uses one core for each. On a GPU most
    # of it is launching kernels, where threads only get in each other's way.
    with _one_thread_each() as threads, ThreadPoolExecutor(1 if together else threads) as pool:
        bar = tqdm(total=len(weights), desc="quantizing", unit="tensor", leave=False, disable=None)
        stored = []
        with bar:
            for items in pool.map(store, batches):
                stored += items
                bar.update(len(items))
    by_name = dict(zip([name for names in batches for name in names], stored, strict=True))
    return {name: by_name[name] for name in weights}


def _batches(
    weights: Mapping[str, Tensor],
    method: MethodConfig,
    widths: Mapping[str, int | None],
    together: bool,
) -> list[list[str]]:
    """Names of the tensors that are quantized in one call.

    ``together``: tensors whose groups have one size, on a GPU, where kernel launches dominate.
    Otherwise each tensor by itself, on a CPU, in whose cache it stays.
    """
    batches: dict[Hashable, list[str]] = defaultdict(list)
    for name, tensor in weights.items():
        bits = widths.get(name)
        size = group_size(tuple(tensor.shape), method.granularity)
        groups = tensor.numel() // size
        if not together or bits is None:
            batches[name] = [name]
            continue
        alike = (bits, size, groups > FEW_GROUPS)
        # Batches with few groups stay small: `lloyd` searches them more thoroughly.
        most = MOST_VALUES // size if groups > FEW_GROUPS else min(FEW_GROUPS, MOST_VALUES // size)
        part = next(
            i
            for i in count()
            if not batches[alike, i] or _groups(batches[alike, i], weights, size) + groups <= most
        )
        batches[alike, part].append(name)
    return list(batches.values())


def _groups(names: Sequence[str], weights: Mapping[str, Tensor], size: int) -> int:
    return sum(weights[name].numel() // size for name in names)


def as_float(name: str, tensor: Tensor, method: MethodConfig) -> Tensor:
    """A tensor that is not quantized, as it is stored: narrower floats and integers as they are.

    Raises:
        OverflowError: if a value is beyond the range of ``float_dtype``.
    """
    dtype = DTYPES[method.float_dtype]
    if not tensor.is_floating_point() or tensor.element_size() <= dtype.itemsize:
        return tensor
    stored = tensor.to(dtype)
    if not stored.isfinite().all():
        raise OverflowError(f"{name} with values up to {tensor.abs().max():g}")
    return stored


@contextmanager
def within_range(where: object) -> Iterator[None]:
    """Make a message of values of a model that are beyond the range of their stored type.

    Raises:
        UserError: in place of the block's `OverflowError`.
    """
    try:
        yield
    except OverflowError as error:
        raise UserError(
            where,
            found=str(error),
            expected="values within the range of the stored type",
            remedy="Store more: `levels_dtype: float32` and `float_dtype: float32`.",
        ) from error


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """The number of torch's threads; in the block, torch itself uses one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
