"""Quantize a model's weights and write them packed."""

from dataclasses import asdict
from pathlib import Path

from flowquant.config.method import MethodConfig
from flowquant.models.model import read_model
from flowquant.quantization.allocation import read_allocation
from flowquant.quantization.apply import quantize_weights, selected, within_range
from flowquant.quantization.codebook import effective_bits
from flowquant.quantization.describe import describe
from flowquant.quantization.packed_file import write_quantized
from flowquant.runtime.device import choose_device
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import sha256, write_json
from flowquant.runtime.names import DeviceName


def quantize(
    model: Path,
    output: Path,
    report: Path,
    method: MethodConfig,
    dataset: str,
    variant: str,
    bits: int | None = None,
    allocation: Path | None = None,
    device: DeviceName = "auto",
) -> None:
    """Quantize a model file and write the packed file and a report of its size and error.

    Args:
        model: Model file.
        output: The packed file to write (format: docs/format.md).
        report: JSON to write: effective bits, bytes, and the squared error of each tensor.
        method: The quantizer, and for which parameters.
        dataset: Name to write into the report.
        variant: Name to write into the report.
        bits: Width of an index, 1…16, the same for all tensors; or instead
        allocation: The file that `allocate` wrote, a width for each tensor.
        device: Where to compute.

    Raises:
        UserError: if a value is not finite, or beyond float16 where that was asked for.
    """
    if (bits is None) == (allocation is None):
        raise UserError(
            "quantize",
            found="both or neither of --bits and --allocation",
            expected="one of the two",
            remedy="Give a width for all tensors or a file with a width for each.",
        )
    weights, config = read_model(model)
    torch_device = choose_device(device)
    moved = {name: tensor.to(torch_device) for name, tensor in weights.items()}
    chosen = selected(weights, config, method)
    widths = read_allocation(allocation, chosen) if allocation else dict.fromkeys(chosen, bits)
    with within_range(model):
        quantized = quantize_weights(moved, method, widths)
    tensors = {
        name: describe(content, weights[name], method.granularity)
        for name, content in quantized.items()
    }
    provenance = {
        "model": asdict(config),
        "method": asdict(method),
        "bits": bits,
        "source_sha256": sha256(model),
        "tensors": tensors,
    }
    write_quantized(output, quantized, provenance)
    description = {
        "dataset": dataset,
        "variant": variant,
        "method": asdict(method),
        "effective_bits": effective_bits(quantized),
        "bytes": output.stat().st_size,
        "full_bytes": model.stat().st_size,
        "tensors": tensors,
    }
    write_json(report, description)
