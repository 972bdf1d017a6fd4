"""A quantization method, and its application to a model's weights."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import count

import torch
from torch import Tensor
from tqdm import tqdm

from flowquant.config.method import MethodConfig
from flowquant.config.model import ModelConfig
from flowquant.models.family import embedding_matrices, matrices
from flowquant.models.model import empty_network
from flowquant.quantization.codebook import (
    Codebook,
    group_size,
    row_size,
    with_levels,
    worthwhile,
)
from flowquant.quantization.levels import quantizer_of
from flowquant.quantization.lloyd import FEW_GROUPS
from flowquant.runtime.errors import UserError, some

# Values quantized in one call on a GPU, to bound memory.
MOST_VALUES = 1 << 24
DTYPES = {"float16": torch.float16, "float32": torch.float32}


def quantize_tensor(tensor: Tensor, method: MethodConfig, bits: float) -> Codebook:
    """Quantize one tensor with at most 2^bits levels a value for each of its groups.

    Raises:
        OverflowError: if a level is beyond the range of ``levels_dtype``.
    """
    return quantize_together([tensor], method, bits)[0]


def quantize_together(
    tensors: Sequence[Tensor], method: MethodConfig, bits: float
) -> list[Codebook]:
    """Quantize tensors whose groups are of one size, or all of a network, in one call.

    Raises:
        OverflowError: as `quantize_tensor`.
    """
    if method.granularity == "network":
        return _with_common_levels(tensors, method, bits)
    size = group_size(tuple(tensors[0].shape), method.granularity)
    scaled = method.granularity == "scaled"
    groups = [(_normal(t) if scaled else t).reshape(-1, size) for t in tensors]
    counts = [len(part) for part in groups]
    count = 2 ** round(bits * method.vector)
    levels, indices = quantizer_of(method.levels)(torch.cat(groups), count)
    dtype = DTYPES[method.levels_dtype]
    books = []
    parts = zip(tensors, levels.split(counts), indices.split(counts), strict=True)
    for tensor, own_levels, own_indices in parts:
        book = Codebook(own_levels, own_indices, tuple(tensor.shape), method.coding).compact()
        book = with_levels(book, dtype)
        books.append(with_levels(_scaled(book, tensor), dtype) if scaled else book)
    return books


def _with_common_levels(
    tensors: Sequence[Tensor], method: MethodConfig, bits: float
) -> list[Codebook]:
    """Quantize tensors as if they were one, all of whose rows are of one mean square."""
    values = torch.cat([_normal(tensor, 1.0).flatten() for tensor in tensors])
    found = quantizer_of(method.levels)(values[None], 2 ** round(bits * method.vector))
    whole = Codebook(*found, tuple(values.shape), method.coding, common=True).compact()
    dtype = DTYPES[method.levels_dtype]
    whole = with_levels(whole, dtype)
    sizes = [tensor.numel() // method.vector for tensor in tensors]
    parts = zip(tensors, whole.indices.split(sizes, dim=1), strict=True)
    books = [(replace(whole, indices=own, shape=tuple(t.shape)), t) for t, own in parts]
    return [with_levels(_scaled(book, tensor), dtype) for book, tensor in books]


def _normal(tensor: Tensor, square: float | None = None) -> Tensor:
    """Rows [S, n ÷ S] of one mean square, if none is given the whole tensor's.

    Those of zeros stay what they are.
    """
    rows = tensor.reshape(-1, row_size(tuple(tensor.shape)))
    squares = rows.double().square().mean(1, keepdim=True)
    factors = ((squares.mean() if square is None else square) / squares).sqrt()
    return (rows * torch.where(squares > 0, factors, 1.0)).to(tensor.dtype)


def _scaled(book: Codebook, tensor: Tensor) -> Codebook:
    """A codebook of normal rows with the scale of least squared error for each row of a tensor."""
    rows = tensor.reshape(-1, row_size(tuple(tensor.shape))).double()
    chosen = book.expand().view_as(rows).double()
    squares = chosen.square().sum(1).clamp(min=torch.finfo(torch.float64).tiny)
    return replace(book, scales=((rows * chosen).sum(1) / squares).float())


def check_widths(
    where: object,
    weights: Mapping[str, Tensor],
    method: MethodConfig,
    widths: Mapping[str, float | None],
) -> None:
    """Check that the tensors to quantize consist of vectors, and of as many as a codebook has.

    Those that share a codebook must have one width.

    Raises:
        UserError: naming the tensors or widths at fault.
    """
    given = {n: (bits, tuple(weights[n].shape)) for n, bits in sorted(widths.items()) if bits}
    network = method.granularity == "network"
    if network and len(found := {f"{bits:g}" for bits, _ in given.values()}) > 1:
        raise UserError(
            where,
            found=f"`granularity: network` and widths of {some(sorted(found))} bits",
            expected="one width for the tensors that share a codebook",
            remedy="Give all the same bits, or set `granularity: scaled`.",
        )
    d = method.vector
    if d == 1:
        return
    sizes = {n: group_size(shape, method.granularity) for n, (_, shape) in given.items()}
    # Those of a codebook, in all.
    points = {n: sum(sizes.values()) if network else size for n, size in sizes.items()}
    problems = {
        f"rows that {d} does not divide": [
            name for name, (_, shape) in given.items() if min(sizes[name], row_size(shape)) % d
        ],
        "codes of more than 16 bits": [
            f"{n}, {b:g}·{d}" for n, (b, _) in given.items() if b * d > 16
        ],
        "more codes than vectors": [
            f"{n}, 2^{round(b * d)} for {points[n] // d}"
            for n, (b, _) in given.items()
            if 2 ** round(b * d) > points[n] // d
        ],
    }
    for problem, names in problems.items():
        if names:
            raise UserError(
                where,
                found=f"{problem}: {some(names)}",
                expected=f"vectors of {d} neighbours in a row, at least 2^(bits·{d}) of them, and "
                f"bits·{d} up to 16",
                remedy="Choose fewer bits or shorter vectors, or `keep` these tensors.",
            )


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


def quantize_embedders(
    weights: Mapping[str, Tensor], config: ModelConfig, method: MethodConfig
) -> dict[str, Codebook | Tensor]:
    """The matrices that time and condition go through first, as the method has them.

    None where they stay float.

    Raises:
        OverflowError: if a value is beyond the range of its stored type.
    """
    if method.embedders is None:
        return {}
    scope = embedding_matrices(empty_network(config))
    names = chosen({n: tensor for n, tensor in weights.items() if n in scope}, scope, method)
    own = replace(method, levels="lloyd", granularity="scaled", embedders=None)
    parts = {name: weights[name] for name in sorted(names)}
    return quantize_weights(parts, own, dict.fromkeys(parts, method.embedders))


def quantize_weights(
    weights: Mapping[str, Tensor], method: MethodConfig, widths: Mapping[str, float | None]
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
        books = quantize_together([weights[name] for name in names], method, bits)
        return list(worthwhile(dict(zip(names, books, strict=True))).values())

    together = any(tensor.is_cuda for tensor in weights.values())
    batches = _batches(weights, method, widths, together)
    # One batch a thread: much of the work is NumPy's, which uses one core for each. On a GPU most
    # of it is launching kernels, where threads only get in each other's way.
    with one_thread_each() as threads, ThreadPoolExecutor(1 if together else threads) as pool:
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
    widths: Mapping[str, float | None],
    together: bool,
) -> list[list[str]]:
    """Names of the tensors that are quantized in one call.

    All of a network that has one codebook; otherwise ``together`` those whose groups have one size,
    on a GPU, where kernel launches dominate, and on a CPU each by itself, in whose cache it stays.
    """
    batches: dict[Hashable, list[str]] = defaultdict(list)
    for name, tensor in weights.items():
        bits = widths.get(name)
        size = group_size(tuple(tensor.shape), method.granularity)
        groups = tensor.numel() // size
        if bits is not None and method.granularity == "network":
            batches["network"].append(name)
            continue
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
def one_thread_each() -> Iterator[int]:
    """The number of torch's threads; in the block, torch itself uses one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
