"""The packed artefact: a quantized model as one safetensors file. See ``docs/format.md``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowquant.config.method import CodingName
from flowquant.models.model import network_forms
from flowquant.quantization.codebook import Codebook, bits_of, dimension, effective_bits, expand
from flowquant.quantization.coding import Coded, decode
from flowquant.quantization.packed_header import PACKED, PackedEntry, PackedMetadata
from flowquant.quantization.packing import pack, packed_bytes, unpack
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.tensors import check_finite, check_tensors, form_of, read_file, write_tensors

REMEDY = "The file was cut off or changed: delete it and run `quantize` again."
# What levels are stored as, and a network's parameters that are not quantized.
LEVELS = "float16|float32"
FLOATS = f"{LEVELS}|bfloat16|float64"


@dataclass(frozen=True)
class PackedTensor:
    """A codebook as it lies in memory, and in a file whose indices are not coded.

    Args:
        packed: uint8 [⌈n ÷ d · bits / 8⌉], indices side by side.
        levels: float16 or float32 [G, L] or [G, L, d].
        bits: Width of an index.
        shape: Shape of the tensor.
        coding: How indices are stored in a file, where that is smaller than packing them.
        scales: Of the levels' type [S], or none.
        common: Whether levels are those of all tensors for which this is so.
    """

    packed: Tensor
    levels: Tensor
    bits: int
    shape: tuple[int, ...]
    coding: CodingName = "none"
    scales: Tensor | None = None
    common: bool = False

    @classmethod
    def of(cls, codebook: Codebook) -> PackedTensor:
        """A codebook, packed."""
        packed = pack(codebook.indices, codebook.bits)
        how = codebook.coding, codebook.scales, codebook.common
        return cls(packed, codebook.levels, codebook.bits, codebook.shape, *how)

    @property
    def count(self) -> int:
        """Number of values."""
        return torch.Size(self.shape).numel()

    @property
    def dimension(self) -> int:
        """Values that an index stands for, d."""
        return dimension(self.levels)

    @cached_property
    def coded(self) -> Coded | None:
        """The indices entropy-coded, if that is asked for and smaller than packing them."""
        return None if self.coding == "none" else self.unpack().coded

    @property
    def stored_bits(self) -> int:
        """Bits of packed or coded indices and of levels that are not common."""
        index_bytes = self.packed.numel() if self.coded is None else self.coded.bytes
        own_levels = None if self.common else self.levels
        return 8 * index_bytes + bits_of(own_levels) + bits_of(self.scales)

    def unpack(self) -> Codebook:
        """The codebook."""
        indices = unpack(self.packed, self.bits, self.count // self.dimension)
        indices = indices.view(len(self.levels), -1)
        return Codebook(self.levels, indices, self.shape, self.coding, self.scales, self.common)


def values(content: PackedTensor | Tensor) -> Tensor:
    """Plain float32 values; integers stay what they are."""
    return expand(content.unpack() if isinstance(content, PackedTensor) else content)


def write_quantized(
    path: Path,
    quantized: Mapping[str, Codebook | PackedTensor | Tensor],
    metadata: Mapping[str, Any],
) -> None:
    """Write codebooks as packed or coded indices and levels, and other tensors as they are.

    ``metadata`` must be JSON-able and, to be read again, what `PackedMetadata` says; the format's
    version, the oldest that has what is stored, effective bits and a digest of the whole content
    are added to it.
    """
    tensors: dict[str, Tensor] = {}
    entries: dict[str, dict[str, Any]] = {}
    version = PACKED.oldest
    for name, content in quantized.items():
        if isinstance(content, Tensor):
            tensors[name] = content
            continue
        entries[name] = {"shape": list(content.shape), "bits": content.bits}
        parts = {"levels": content.levels}
        if content.dimension > 1:
            entries[name]["vector"], version = content.dimension, PACKED.version
        if content.scales is not None:
            parts["scales"] = content.scales
            entries[name]["scales"], version = len(content.scales), PACKED.version
        if content.common:
            entries[name]["common"], version = True, PACKED.version
        if (coded := content.coded) is not None:
            parts |= {"coded": coded.stream, "frequencies": coded.frequencies}
            entries[name]["coding"], version = content.coding, PACKED.version
        elif isinstance(content, Codebook):
            parts["indices"] = pack(content.indices, content.bits)
        else:
            parts["indices"] = content.packed
        names = PackedEntry(**entries[name]).parts(name)
        tensors |= {names[part]: tensor for part, tensor in parts.items()}
    described = {
        "packed": entries,
        "effective_bits": effective_bits(quantized),
        "version": version,
        **metadata,
    }
    write_tensors(path, tensors, described, PACKED)


def read_packed(
    path: Path, *needed: str
) -> tuple[dict[str, PackedTensor | Tensor], dict[str, Any]]:
    """Read what `write_quantized` wrote, indices packed, and the metadata.

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
        forms |= _forms(name, entry)
    check_tensors(path, tensors, forms, "the tensors of its network, each packed or float", REMEDY)
    # A buffer of another program's network may hold an infinity of its own, as masks do.
    own = described.model is not None
    finite = {n: t for n, t in tensors.items() if own or n.endswith((".levels", ".scales"))}
    check_finite(path, finite, REMEDY)
    packed: dict[str, PackedTensor | Tensor] = {}
    used: set[str] = set()
    for name, entry in described.packed.items():
        names = entry.parts(name)
        used |= {*names.values()}
        parts = {part: tensors[own] for part, own in names.items()}
        indices = _packed(path, name, entry, parts)
        content = PackedTensor(
            indices,
            parts["levels"],
            entry.bits,
            tuple(entry.shape),
            described.method.coding,
            parts.get("scales"),
            entry.common,
        )
        _check_levels(path, name, content, entry.vector)
        packed[name] = content
    plain = {name: tensor for name, tensor in tensors.items() if name not in used}
    return {**packed, **plain}, file.metadata


def _forms(name: str, entry: PackedEntry) -> dict[str, str]:
    """Forms of the tensors that hold a quantized one, by their names."""
    vector = f", {entry.vector}" if entry.vector > 1 else ""
    every = {
        "indices": f"uint8 [{packed_bytes(entry.indices, entry.bits)}]",
        "coded": "uint8 [*]",
        "frequencies": "uint16 [*]",
        "levels": f"{LEVELS} [{1 if entry.common else '*'}, *{vector}]",
        "scales": f"{LEVELS} [{entry.scales}]",
    }
    return {own: every[part] for part, own in entry.parts(name).items()}


def _packed(path: Path, name: str, entry: PackedEntry, parts: Mapping[str, Tensor]) -> Tensor:
    """A tensor's packed indices, decoded if they are coded."""
    if entry.coding == "none":
        return parts["indices"]
    available = parts["levels"].shape[1]
    try:
        if len(parts["frequencies"]) != max(2, available) or available > 1 << entry.bits:
            raise ValueError(f"frequencies of other than {available} levels")
        return pack(decode(Coded(parts["coded"], parts["frequencies"]), entry.indices), entry.bits)
    except ValueError as error:
        raise UserError(
            path,
            found=f"{error} in {name}",
            expected=f"{entry.indices} coded indices",
            remedy=REMEDY,
        ) from error


def _foreign_forms(described: PackedMetadata, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Forms of the weights of a network that is not known: as the file has them."""
    parts = {own for name, e in described.packed.items() for own in e.parts(name).values()}
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


def _check_levels(path: Path, name: str, content: PackedTensor, d: int) -> None:
    """Check that a tensor's levels fit its values and its indices, each for d values."""
    groups, available = content.levels.shape[:2]
    most = 2**content.bits
    # A vector lies within a group and within a part that has a scale of its own.
    parts = {groups, 1 if content.scales is None else len(content.scales)}
    # Common levels may have the form that another tensor says.
    fit = content.dimension == d and not any(content.count % (part * d) for part in parts)
    if not fit or available > most:
        scaled = "" if content.scales is None else f" and {len(content.scales)} scales"
        raise UserError(
            path,
            found=f"{name} with levels {list(content.levels.shape)}{scaled} for {content.count} "
            f"values of {content.bits} bits",
            expected=f"groups and parts alike in size, of at most {most} levels for {d} values",
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
