"""Print what is in a quantized model file."""

from pathlib import Path
from typing import Annotated, Any

import tyro
from torch import Tensor

from flowquant.models.model import read_model
from flowquant.quantization.codebook import Codebook, Quantized, effective_bits, values_of
from flowquant.quantization.describe import errors
from flowquant.quantization.error import wasserstein2_pot
from flowquant.quantization.packed_file import check_same_weights, read_quantized

HEADER = ("tensor", "shape", "bits", "granularity", "levels", "W2", "squared error", "bytes")


def inspect(file: Annotated[Path, tyro.conf.Positional], against: Path | None = None) -> None:
    """Print a table of a quantized model's tensors, and totals against float32.

    W2 (Wasserstein-2 distance) and squared error (mean over values) are those that were measured
    when the file was written, or with --against are measured anew, W2 by POT.

    Args:
        file: The quantized model file.
        against: The full-precision model file to compare with.

    Raises:
        UserError: if the two are not of the same network.
    """
    quantized, metadata = read_quantized(file)
    measured: dict[str, Any] = dict(metadata["tensors"])
    if against is not None:
        measured = _measure(file, quantized, against, measured)
    rows = [HEADER, *(_row(name, quantized[name], measured[name]) for name in measured)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    for row in rows:
        print(
            row[0].ljust(widths[0]), *(t.rjust(w) for t, w in zip(row[1:], widths[1:], strict=True))
        )
    values = sum(values_of(content) for content in quantized.values())
    stored = file.stat().st_size
    print()
    print(f"format version  {metadata['version']}")
    print(f"method          {_method(metadata)}")
    print(f"source model    SHA-256 {metadata['source_sha256']}")
    print(f"parameters      {values:,}")
    print(f"file            {stored:,} bytes")
    print(f"float32         {4 * values:,} bytes, {4 * values / stored:.2f} times as many")
    print(f"effective bits  {effective_bits(quantized):.4f} a parameter")


def _measure(
    file: Path, quantized: Quantized, against: Path, described: dict[str, Any]
) -> dict[str, Any]:
    """The entries of a report with errors measured anew against a model file."""
    weights, _ = read_model(against)
    check_same_weights(file, quantized, against, weights)
    return {
        name: entry | errors(quantized[name], weights[name], wasserstein2_pot)
        for name, entry in described.items()
    }


def _row(name: str, content: Codebook | Tensor, measured: dict[str, Any]) -> tuple[str, ...]:
    """A tensor's cells under `HEADER`."""
    book = content if isinstance(content, Codebook) else None
    return (
        name,
        "×".join(str(size) for size in content.shape),
        str(measured["bits"]),
        measured["granularity"],
        f"{book.levels.shape[0]}×{book.levels.shape[1]}" if book else "–",
        f"{measured['w2']:.3e}",
        f"{measured['mean_squared_error']:.3e}",
        f"{measured['bytes']:,}",
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
