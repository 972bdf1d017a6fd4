"""Quantized modules as files, and files as modules: ``flowquant.save`` and ``flowquant.load``."""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn

from flowquant.config.custom import CustomConfig
from flowquant.config.model import ModelConfig
from flowquant.models.family import is_ours
from flowquant.models.model import empty_network, read_weights
from flowquant.quantization.apply import DTYPES
from flowquant.quantization.packed_file import PackedTensor, read_packed, values, write_quantized
from flowquant.quantization.packed_network import keep_packed
from flowquant.quantization.record import Record, attach, quantized_record
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.tensors import read_metadata

Module = TypeVar("Module", bound=nn.Module)
KEPT = ("method", "bits", "refine", "source_sha256")


def save(module: nn.Module, path: str | PathLike[str]) -> None:
    """Write a quantized module as a packed file (docs/format.md), a few bits a weight.

    What it computes with is what is written: floats in float16 where that is exact, else as they
    are; buffers as they are, those that are not persistent not at all; tied weights once.

    Raises:
        UserError: if the module is not quantized or a quantized weight has changed since, or the
            disk says no.
    """
    record = quantized_record(module)
    narrow = DTYPES[record.about["method"]["float_dtype"]]
    places: dict[Hashable, list[str]] = defaultdict(list)
    state = module.state_dict()
    for name, tensor in state.items():
        if not isinstance(tensor, Tensor):
            raise UserError(
                f"module's `{name}`",
                found=f"a {type(tensor).__name__} in the state dict",
                expected="tensors alone",
                remedy="Keep extra state elsewhere: a packed file holds tensors.",
            )
        places[_place(name, tensor)].append(name)
    contents: dict[str, PackedTensor | Tensor] = {}
    tied: dict[str, str] = {}
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    for names in places.values():
        name = next((name for name in names if name in record.packed), names[0])
        tensor = state[name]
        if name in record.packed:
            contents[name] = record.packed[name]
        else:
            # Copies: a file holds no two tensors in one memory.
            contents[name] = _narrowed(tensor, narrow) if name in parameters else tensor.clone()
        tied |= {other: name for other in names if other != name}
    metadata = dict(record.about)
    if record.model is not None:
        metadata["model"] = asdict(record.model)
    if tied:
        metadata["tied"] = tied
    write_quantized(Path(path), contents, metadata)


def _place(name: str, tensor: Tensor) -> Hashable:
    """What two names of one tensor have in common; an empty tensor has only its name."""
    if not tensor.numel():
        return name
    storage = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
    return storage, tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _narrowed(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor in a narrower float type if that keeps every value."""
    if not tensor.is_floating_point() or tensor.element_size() <= dtype.itemsize:
        return tensor.clone()
    narrow = tensor.to(dtype)
    return narrow if narrow.to(tensor.dtype).equal(tensor) else tensor.clone()


@overload
def load(path: str | PathLike[str], into: Module, *, packed: bool = False) -> Module: ...


@overload
def load(path: str | PathLike[str], into: None = None, *, packed: bool = False) -> nn.Module: ...


def load(
    path: str | PathLike[str], into: nn.Module | None = None, *, packed: bool = False
) -> nn.Module:
    """Fill a module from a file, quantized or not, with the very values that were saved.

    Args:
        path: A packed file, or any safetensors file.
        into: A module with weights of these names and shapes, which is filled, in its own types and
            on its own device. A model file, or a packed file of one, needs none: its network is
            built, in evaluation mode, on the CPU.
        packed: Keep quantized matrices and kernels packed in memory, each expanded as needed; such
            a module computes, and is not trained or saved.

    Returns:
        ``into``, or the network that was built.

    Raises:
        UserError: if the file is unreadable or damaged, does not say what network it is of, or does
            not fit, naming what is missing, unexpected and of another shape.

    >>> import flowquant, torch
    >>> model = torch.nn.Linear(16, 16)
    >>> flowquant.save(flowquant.quantize(model, bits=2), "model.safetensors")
    >>> flowquant.load("model.safetensors", into=torch.nn.Linear(16, 3))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    flowquant.runtime.errors.UserError: model.safetensors: found of another shape: weight...
    """
    path = Path(path)
    contents, metadata, model = _read(path)
    network = into
    if network is None:
        if model is None:
            raise UserError(
                path,
                found="tensors without a model configuration",
                expected="a file of this package's networks, or a module to load into",
                remedy="Build the module and say `into=module`.",
            )
        network = _with_memory(empty_network(model)).eval()
    tied: Mapping[str, str] = metadata.get("tied", {})
    own_class = model is not None and isinstance(model.network, CustomConfig)
    _refuse_misfit(path, network, contents, tied, own_class)
    books = {n: c for n, c in contents.items() if isinstance(c, PackedTensor)}
    if packed:
        # A weight with a second name is needed as it is.
        alone = {n: c for n, c in contents.items() if n not in tied.values()}
        contents = keep_packed(network, alone) | {n: contents[n] for n in tied.values()}
    _fill(network, contents, tied)
    about = {key: metadata[key] for key in KEPT if key in metadata}
    # A module of the user's own is not called as this package's are.
    attach(network, Record(books, about, model if is_ours(network) else None))
    return network


def _read(
    path: Path,
) -> tuple[dict[str, PackedTensor | Tensor], dict[str, Any], ModelConfig | None]:
    """Tensors, metadata, and what the network is, if it is of this package."""
    if "packed" not in read_metadata(path):
        weights, model = read_weights(path)
        return dict(weights), {}, model
    contents, metadata = read_packed(path)
    return (
        contents,
        metadata,
        ModelConfig.from_dict(metadata["model"]) if metadata.get("model") else None,
    )


def _with_memory(network: nn.Module) -> nn.Module:
    """A network whose parameters have memory; what it has already, such as constants, stays."""
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.is_meta:
                empty = torch.empty_like(parameter, device="cpu")
                module._parameters[name] = nn.Parameter(empty, parameter.requires_grad)
    return network


def _refuse_misfit(
    path: Path,
    network: nn.Module,
    contents: Mapping[str, PackedTensor | Tensor],
    tied: Mapping[str, str],
    own_class: bool,
) -> None:
    """Refuse a file whose tensors are not the module's.

    The workflow's files of a class of the user's own have no integers, which the class makes anew.
    """
    state = {n: t for n, t in network.state_dict().items() if isinstance(t, Tensor)}
    needed = {n: t for n, t in state.items() if t.is_floating_point() or not own_class}
    if unusable := [name for name, tensor in state.items() if tensor.is_meta]:
        raise UserError(
            "module",
            found=f"no memory for {some(unusable)}",
            expected="a module with weights, which are overwritten",
            remedy='Build it outside of `torch.device("meta")`.',
        )
    shapes = {n: tuple(c.shape) for n, c in contents.items()}
    shapes |= {alias: shapes[name] for alias, name in tied.items()}
    # Two names of one tensor of the module: one of them in the file is enough.
    given = {_place(name, state[name]) for name in shapes if name in state}
    problems = {
        "missing": [n for n, t in needed.items() if n not in shapes and _place(n, t) not in given],
        "unexpected": sorted(set(shapes) - set(state)),
        "of another shape": [
            f"{name} {shapes[name]} for {tuple(tensor.shape)}"
            for name, tensor in state.items()
            if name in shapes and shapes[name] != tuple(tensor.shape)
        ],
    }
    if any(problems.values()):
        raise UserError(
            path,
            found="; ".join(f"{kind}: {some(what)}" for kind, what in problems.items() if what),
            expected=f"the module's {len(state)} weights",
            remedy="Build the module as it was when the file was made.",
        )


@torch.no_grad()
def _fill(
    network: nn.Module, contents: Mapping[str, PackedTensor | Tensor], tied: Mapping[str, str]
) -> None:
    """Copy values into a module, a tensor at a time."""
    state = network.state_dict()
    sources = {name: name for name in contents} | dict(tied)
    for name, source in sources.items():
        if source in contents:
            state[name].copy_(values(contents[source]))
