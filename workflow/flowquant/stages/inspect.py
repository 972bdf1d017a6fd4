"""Print what is in a quantized model file."""

from pathlib import Path
from typing import Annotated, Any

import tyro

from flowquant.quantization.packed_header import PACKED, PackedMetadata
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.header import REMEDY, Header, read_header

HEADER = ("tensor", "shape", "bits", "granularity", "levels", "W2", "squared error", "bytes")


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
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
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
    parts = {f"{name}.{part}" for name in described.packed for part in ("indices", "levels")}
    if missing := parts - entries.keys():
        raise UserError(
            file,
            found=f"no {some(sorted(missing))}",
            expected="the tensors that its metadata name",
            remedy=REMEDY,
        )
    for name, entry in described.packed.items():
        indices, levels = entries[f"{name}.indices"], entries[f"{name}.levels"]
        found[name] = {
            "shape": entry.shape,
            "bits": entry.bits,
            "granularity": described.method.granularity,
            "levels": "×".join(map(str, levels.shape)),
            "values": entry.count,
            "bytes": indices.bytes + levels.bytes,
        }
    for name, plain in entries.items():
        if name not in parts:
            found[name] = {
                "shape": plain.shape,
                "bits": 8 * plain.bytes // max(1, plain.values),
                "granularity": "float" if "float" in plain.kind else plain.kind,
                "levels": "–",
                "values": plain.values,
                "bytes": plain.bytes,
            }
    # In the order of the model, where it was kept.
    order = {name: place for place, name in enumerate(described.tensors)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0], len(order))))


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
