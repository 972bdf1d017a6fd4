"""The packed artefact: a quantized model as one safetensors file. See ``docs/format.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowquant.models.model import network_forms
from flowquant.quantization.codebook import Codebook, effective_bits, expand
from flowquant.quantization.packed_header import PACKED, PackedMetadata
from flowquant.quantization.packing import pack, packed_bytes, unpack
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.tensors import check_finite, check_tensors, form_of, read_file, write_tensors

REMEDY = "The file was cut off or changed: delete it and run `quantize` again."
# What levels are stored as, and a network's parameters that are not quantized.
LEVELS = "float16|float32"
FLOATS = f"{LEVELS}|bfloat16|float64"


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

    @classmethod
    def of(cls, codebook: Codebook) -> PackedTensor:
        """A codebook, packed."""
        packed = pack(codebook.indices, codebook.bits)
        return cls(packed, codebook.levels, codebook.bits, codebook.shape)

    @property
    def count(self) -> int:
        """Number of values."""
        return torch.Size(self.shape).numel()

    @property
    def stored_bits(self) -> int:
        """Bits of packed indices and levels."""
        return 8 * (self.packed.numel() + self.levels.numel() * self.levels.element_size())

    def unpack(self) -> Codebook:
        """The codebook."""
        indices = unpack(self.packed, self.bits, self.count).view(len(self.levels), -1)
        return Codebook(self.levels, indices, self.shape)


def values(content: PackedTensor | Tensor) -> Tensor:
    """Plain float32 values; integers stay what they are."""
    return expand(content.unpack() if isinstance(content, PackedTensor) else content)


def write_quantized(
    path: Path,
    quantized: Mapping[str, Codebook | PackedTensor | Tensor],
    metadata: Mapping[str, Any],
) -> None:
    """Write codebooks as packed indices and levels, and other tensors as they are.

    ``metadata`` must be JSON-able and, to be read again, what `PackedMetadata` says; the format's
    version, effective bits and a digest of the whole content are added to it.
    """
    tensors: dict[str, Tensor] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name, content in quantized.items():
        if isinstance(content, Tensor):
            tensors[name] = content
            continue
        packed = PackedTensor.of(content) if isinstance(content, Codebook) else content
        tensors[f"{name}.indices"], tensors[f"{name}.levels"] = packed.packed, packed.levels
        entries[name] = {"shape": list(packed.shape), "bits": packed.bits}
    described = {"packed": entries, "effective_bits": effective_bits(quantized), **metadata}
    write_tensors(path, tensors, described, PACKED)


def read_packed(
    path: Path, *needed: str
) -> tuple[dict[str, PackedTensor | Tensor], dict[str, Any]]:
    """Read what `write_quantized` wrote, indices still packed, and the metadata.

    Args:
        path: The file.
        needed: Of the keys that metadata may lack, those that must be there.

    Raises:
        UserError: if the file is unreadable, of another version, changed, or inconsistent in itself
            or with its network.
    """
    file = read_file(path, PACKED)
    tensors, described = file.tensors, file.described
    if missing := [f"`{key}`" for key in needed if key not in file.metadata]:
        raise UserError(
            path,
            found=f"no {some(missing)}",
            expected=f"{PACKED.described}, of a network of this package",
            remedy=PACKED.remedy,
        )
    if described.model is None:
        forms = _foreign_forms(described, tensors)
    else:
        forms = network_forms(path, described.model, FLOATS, len(tensors))
    _check_names(path, described, forms)
    for name, entry in described.packed.items():
        del forms[name]
        size = packed_bytes(entry.count, entry.bits)
        forms |= {f"{name}.indices": f"uint8 [{size}]", f"{name}.levels": f"{LEVELS} [*, *]"}
    check_tensors(path, tensors, forms, "the tensors of its network, each packed or float", REMEDY)
    # A buffer of another program's network may hold an infinity of its own, as masks do.
    own = described.model is not None
    finite = {n: t for n, t in tensors.items() if own or n.endswith(".levels")}
    check_finite(path, finite, REMEDY)
    packed: dict[str, PackedTensor | Tensor] = {}
    for name, entry in described.packed.items():
        indices, levels = (tensors.pop(f"{name}.{part}") for part in ("indices", "levels"))
        content = PackedTensor(indices, levels, entry.bits, tuple(entry.shape))
        _check_levels(path, name, content)
        packed[name] = content
    return {**packed, **tensors}, file.metadata


def _foreign_forms(described: PackedMetadata, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Forms of the weights of a network that is not known: as the file has them."""
    parts = {f"{name}.{part}" for name in described.packed for part in ("indices", "levels")}
    plain = {name: form_of(tensor) for name, tensor in tensors.items() if name not in parts}
    return plain | {name: f"{LEVELS} {entry.shape}" for name, entry in described.packed.items()}


def check_same_weights(
    path: Path,
    quantized: Mapping[str, Codebook | Tensor],
    model: Path,
    weights: Mapping[str, Tensor],
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
    wrong += sorted(described.tensors.keys() - shapes.keys())
    wrong += sorted(
        alias for alias, name in described.tied.items() if alias in shapes or name not in shapes
    )
    if wrong:
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


def read_quantized(path: Path, *needed: str) -> tuple[dict[str, Codebook | Tensor], dict[str, Any]]:
    """Read what `write_quantized` wrote: the exact codebooks and tensors, and the metadata.

    Raises:
        UserError: as `read_packed`.
    """
    packed, metadata = read_packed(path, *needed)
    return {
        name: content.unpack() if isinstance(content, PackedTensor) else content
        for name, content in packed.items()
    }, metadata
