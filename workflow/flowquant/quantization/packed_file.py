"""The packed artefact: a quantized model as one safetensors file. See ``docs/format.md``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from flowquant.config.fields import Bits
from flowquant.config.model import ModelConfig
from flowquant.models.model import network_forms
from flowquant.quantization.codebook import Codebook, Quantized, effective_bits
from flowquant.quantization.packing import pack, packed_bytes, unpack
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.tensors import Kind, check_finite, check_tensors, read_file, write_tensors

REMEDY = "The file was cut off or changed: delete it and run `quantize` again."
# What levels, and parameters that are not quantized, are stored as.
FLOATS = "float16|float32"
Size = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class PackedEntry:
    """A quantized parameter: its shape and the width of an index."""

    shape: list[Size]
    bits: Bits

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class MethodMetadata:
    """What is read of a method's row."""

    levels: str
    granularity: str
    scope: str


@dataclass(frozen=True)
class TensorMetadata:
    """What is said of a stored parameter, against the full-precision one."""

    values: int
    bytes: int
    bits: int
    granularity: str
    mean_squared_error: float
    w2: float


@dataclass(frozen=True)
class RefineMetadata:
    """What is read of how a model was refined."""

    steps: int


@dataclass(frozen=True)
class PackedMetadata:
    """What a packed file must say besides its tensors; docs/format.md explains it."""

    version: int
    packed: dict[str, PackedEntry]
    model: ModelConfig
    method: MethodMetadata
    bits: Bits | None
    effective_bits: float
    source_sha256: str
    tensors: dict[str, TensorMetadata]
    refine: RefineMetadata | None = None


PACKED = Kind("quantized model", "`quantize` or `refine`", PackedMetadata)


@dataclass(frozen=True)
class PackedTensor:
    """A codebook as it lies in the file.

    Args:
        packed: uint8 [⌈n·bits / 8⌉], indices side by side.
        levels: float16 or float32 [G, L].
        bits: Width of an index.
        shape: Shape of the tensor.
    """

    packed: Tensor
    levels: Tensor
    bits: int
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of values."""
        return torch.Size(self.shape).numel()

    def unpack(self) -> Codebook:
        """The codebook."""
        indices = unpack(self.packed, self.bits, self.count).view(len(self.levels), -1)
        return Codebook(self.levels, indices, self.shape)


def write_quantized(path: Path, quantized: Quantized, metadata: Mapping[str, Any]) -> None:
    """Write codebooks as packed indices and levels, and float tensors as they are.

    ``metadata`` must be JSON-able and, to be read again, what `PackedMetadata` says; the format's
    version, effective bits and a digest of the whole content are added to it.
    """
    tensors: dict[str, Tensor] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name, content in quantized.items():
        if isinstance(content, Codebook):
            tensors[f"{name}.indices"] = pack(content.indices, content.bits)
            tensors[f"{name}.levels"] = content.levels
            entries[name] = {"shape": list(content.shape), "bits": content.bits}
        else:
            tensors[name] = content
    described = {"packed": entries, "effective_bits": effective_bits(quantized), **metadata}
    write_tensors(path, tensors, described, PACKED)


def read_packed(path: Path) -> tuple[dict[str, PackedTensor | Tensor], dict[str, Any]]:
    """Read what `write_quantized` wrote, indices still packed, and the metadata.

    Raises:
        UserError: if the file is unreadable, of another version, changed, or inconsistent in itself
            or with its network.
    """
    file = read_file(path, PACKED)
    tensors, described = file.tensors, file.described
    forms = network_forms(path, described.model, FLOATS, len(tensors))
    _check_names(path, described, forms)
    for name, entry in described.packed.items():
        del forms[name]
        size = packed_bytes(entry.count, entry.bits)
        forms |= {f"{name}.indices": f"uint8 [{size}]", f"{name}.levels": f"{FLOATS} [*, *]"}
    check_tensors(path, tensors, forms, "the tensors of its network, each packed or float", REMEDY)
    check_finite(path, tensors, REMEDY)
    packed: dict[str, PackedTensor | Tensor] = {}
    for name, entry in described.packed.items():
        indices, levels = (tensors.pop(f"{name}.{part}") for part in ("indices", "levels"))
        content = PackedTensor(indices, levels, entry.bits, tuple(entry.shape))
        _check_levels(path, name, content)
        packed[name] = content
    return {**packed, **tensors}, file.metadata


def check_same_weights(
    path: Path, quantized: Quantized, model: Path, weights: Mapping[str, Tensor]
) -> None:
    """Check that a quantized model and a full-precision one have the same weights, by shape.

    Raises:
        UserError: naming the full-precision model's file and what differs.
    """
    if differing := sorted(
        name
        for name in weights.keys() | quantized.keys()
        if name not in weights
        or name not in quantized
        or tuple(quantized[name].shape) != tuple(weights[name].shape)
    ):
        raise UserError(
            model,
            found=f"other tensors than in {path}: {some(differing)}",
            expected="the model that the file was quantized from",
            remedy="Name the model file of the same dataset and run.",
        )


def _check_names(path: Path, described: PackedMetadata, forms: Mapping[str, str]) -> None:
    """Check that the metadata are about the network's parameters, as they are."""
    shapes = {name: form.partition(" ")[2] for name, form in forms.items()}
    wrong = [
        f"{name} {entry.shape}"
        for name, entry in described.packed.items()
        if shapes.get(name) != str(entry.shape)
    ]
    if wrong := [*wrong, *sorted(described.tensors.keys() - shapes.keys())]:
        raise UserError(
            path,
            found=f"metadata about {some(wrong)}",
            expected="names and shapes of its network",
            remedy=REMEDY,
        )


def _check_levels(path: Path, name: str, content: PackedTensor) -> None:
    """Check that a tensor's levels fit its values and its indices."""
    groups, available = content.levels.shape
    most = 2**content.bits
    if content.count % groups or available > most:
        raise UserError(
            path,
            found=f"{name} with levels {[groups, available]} for {content.count} values of "
            f"{content.bits} bits",
            expected=f"groups alike in size, of at most {most} levels",
            remedy=REMEDY,
        )
    # With a level for every index of this width, no index can be too large.
    if available < most and (highest := int(content.unpack().indices.max())) >= available:
        raise UserError(
            path,
            found=f"index {highest} in {name}",
            expected=f"indices below its {available} levels",
            remedy=REMEDY,
        )


def read_quantized(path: Path) -> tuple[dict[str, Codebook | Tensor], dict[str, Any]]:
    """Read what `write_quantized` wrote: the exact codebooks and tensors, and the metadata.

    Raises:
        UserError: as `read_packed`.
    """
    packed, metadata = read_packed(path)
    return {
        name: content.unpack() if isinstance(content, PackedTensor) else content
        for name, content in packed.items()
    }, metadata
