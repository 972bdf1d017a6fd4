"""Print what is in a quantized model file."""

import sys
from array import array
from math import log2
from pathlib import Path
from typing import Annotated, Any

import tyro

from flowquant.quantization.packed_header import COMMON_LEVELS, PACKED, PackedMetadata
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.header import REMEDY, Entry, Header, read_header

# What is said of each tensor; of coded indices the middle two, too, in bits an index.
HEADER = ("tensor", "shape", "bits", "granularity", "levels", "W2", "squared error", "bytes")
CODED = ("entropy", "coded")


def inspect(file: Annotated[Path, tyro.conf.Positional], against: Path | None = None) -> None:
    """Print a table of a quantized model's tensors, and totals against float32.

    W2 (Wasserstein-2 distance) and squared error (mean over values) are those that were measured
    when the file was written, if they were, or with --against are measured anew, W2 by POT.

    Args:
        file: The quantized model file.
        against: The full-precision file to compare with.

    Raises:
        UserError: if the two are not of the same network.
    """
    header = read_header(file, PACKED)
    metadata = header.metadata
    tensors = _tensors(file, header)
    measured = metadata.get("tensors", {}) if against is None else _measure(file, against)
    rows = [HEADER, *(_row(name, tensors[name], measured.get(name, {})) for name in tensors)]
    if any("coded" in tensor for tensor in tensors.values()):
        cells = [CODED, *(_coded_cells(tensor) for tensor in tensors.values())]
        rows = [(*row[:3], *more, *row[3:]) for row, more in zip(rows, cells, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            row[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(row[1:], widths[1:], strict=True))
        )
    values = sum(tensor["values"] for tensor in tensors.values())
    stored, bits = file.stat().st_size, 8 * sum(entry.bytes for entry in header.entries.values())
    print()
    print(f"format version  {metadata['version']}")
    print(f"method          {_method(metadata)}")
    if "source_sha256" in metadata:
        print(f"source model    SHA-256 {metadata['source_sha256']}")
    print(f"parameters      {values:,}")
    print(f"file            {stored:,} bytes")
    print(f"float32         {4 * values:,} bytes, {4 * values / stored:.2f} times as many")
    print(f"effective bits  {bits / values:.4f} a parameter")


def _tensors(file: Path, header: Header[PackedMetadata]) -> dict[str, dict[str, Any]]:
    """What the header says of each tensor: shape, bits, granularity, levels, values, bytes."""
    found: dict[str, dict[str, Any]] = {}
    entries, described = header.entries, header.described
    parts = {own for n, entry in described.packed.items() for own in entry.parts(n).values()}
    if missing := parts - entries.keys():
        raise UserError(
            file,
            found=f"no {some(sorted(missing))}",
            expected="the tensors that its metadata name",
            remedy=REMEDY,
        )
    for name, entry in described.packed.items():
        names, method = entry.parts(name), described.method.granularity
        held = {part: entries[own] for part, own in names.items()}
        found[name] = {
            "shape": entry.shape,
            "bits": entry.bits,
            "granularity": method if entry.common or not entry.scales else "scaled",
            "levels": "×".join(map(str, held["levels"].shape)),
            "values": entry.count,
            "bytes": sum(entries[own].bytes for own in names.values() if own != COMMON_LEVELS),
        }
        if entry.coding != "none":
            stored = held["coded"].bytes + held["frequencies"].bytes
            entropy = _entropy(file, held["frequencies"])
            found[name] |= {"coded": 8 * stored / entry.indices, "entropy": entropy}
    for name, plain in entries.items():
        if name not in parts or name == COMMON_LEVELS:
            found[name] = {
                "shape": plain.shape,
                "bits": 8 * plain.bytes // max(1, plain.values),
                "granularity": "float" if "float" in plain.kind else plain.kind,
                "levels": "–",
                "values": 0 if name == COMMON_LEVELS else plain.values,
                "bytes": plain.bytes,
            }
    # In the order of the model, where it was kept.
    order = {name: place for place, name in enumerate(described.tensors)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


def _entropy(file: Path, frequencies: Entry) -> float:
    """Bits an index that a table of frequencies says its indices have."""
    table = array("H")
    with file.open("rb") as content:
        content.seek(frequencies.begin)
        table.frombytes(content.read(2 * frequencies.values))
    if sys.byteorder == "big":
        table.byteswap()
    total = sum(table) + len(table)
    return -sum((less_one + 1) / total * log2((less_one + 1) / total) for less_one in table)


def _measure(file: Path, against: Path) -> dict[str, Any]:
    """Errors of each tensor, measured anew against a full-precision file."""
    from flowquant.models.model import read_weights
    from flowquant.quantization.describe import errors
    from flowquant.quantization.error import wasserstein2_pot
    from flowquant.quantization.packed_file import check_same_weights, read_quantized

    (quantized, _), (weights, _) = read_quantized(file), read_weights(against)
    check_same_weights(file, quantized, against, weights)
    return {
        name: errors(content, weights[name].float(), wasserstein2_pot)
        for name, content in quantized.items()
    }


def _row(name: str, tensor: dict[str, Any], measured: dict[str, Any]) -> tuple[str, ...]:
    """A tensor's cells under `HEADER`."""
    errors = (measured.get(key) for key in ("w2", "mean_squared_error"))
    return (
        name,
        "×".join(map(str, tensor["shape"])),
        str(tensor["bits"]),
        tensor["granularity"],
        tensor["levels"],
        *("–" if error is None else f"{error:.3e}" for error in errors),
        f"{tensor['bytes']:,}",
    )


def _coded_cells(tensor: dict[str, Any]) -> tuple[str, ...]:
    """A tensor's cells under `CODED`."""
    return tuple(f"{tensor[key]:.3f}" if key in tensor else "–" for key in CODED)


def _method(metadata: dict[str, Any]) -> str:
    """The method in words: quantizer, width, granularity, scope, refinement."""
    method = metadata["method"]
    width = f"{metadata['bits']} bits" if metadata["bits"] else "mixed widths"
    refine = metadata.get("refine")
    refined = f", refined for {refine['steps']} steps" if refine else ""
    return (
        f"{method['levels']}, {width}, granularity {method['granularity']}, "
        f"scope {method['scope']}{refined}"
    )
