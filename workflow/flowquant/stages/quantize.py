"""Quantize a model file, or the weights of any safetensors file, and write them packed."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import tyro
from torch import Tensor

from flowquant.config.compensation import DEFAULT, CompensationConfig
from flowquant.config.fields import plain
from flowquant.config.method import RECOMMENDED, MethodConfig
from flowquant.config.model import ModelConfig
from flowquant.models.model import read_weights
from flowquant.quantization.allocation import read_allocation
from flowquant.quantization.apply import (
    chosen,
    quantize_embedders,
    selected,
    within_range,
)
from flowquant.quantization.codebook import Codebook, effective_bits
from flowquant.quantization.compensate import compensate_weights
from flowquant.quantization.describe import describe
from flowquant.quantization.hessians import read_hessians
from flowquant.quantization.module import (
    check_width,
    factors_by_name,
    quantize_contents,
    refuse_unusable,
)
from flowquant.quantization.packed_file import write_quantized
from flowquant.runtime.device import choose_device
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import sha256, write_json
from flowquant.runtime.names import DeviceName
from flowquant.runtime.tensors import read_metadata


def quantize(
    model: Annotated[Path, tyro.conf.Positional],
    output: Path | None = None,
    report: Path | None = None,
    method: Annotated[MethodConfig, tyro.conf.arg(name="")] = RECOMMENDED,
    dataset: str = "",
    variant: str = "",
    bits: float | None = None,
    allocation: Path | None = None,
    hessians: Path | None = None,
    compensate: CompensationConfig = DEFAULT,
    device: DeviceName = "auto",
    training_seed: int = 0,
) -> None:
    """Quantize a file of weights and write the packed file, and a report of its size and error.

    Of a file that another program wrote, only names tell what a tensor is: with `--scope matrices`
    those of two or more dimensions are quantized whose last word has `weight` in it and whose last
    but one does not end in a norm's or an embedding's name (`norm1`, `ln_2`, `label_emb`, `wte`).

    Args:
        model: Model file, or any safetensors file.
        output: The packed file to write (format: docs/format.md); without a name, one beside the
            model that ends in the width, `model.2bit.safetensors`.
        report: JSON to write: effective bits, bytes, and the squared error of each tensor; without
            a name the sizes are printed.
        method: The quantizer, and for which parameters.
        dataset: Name to write into the report.
        training_seed: The seed that the model was trained with, to write into the report.
        variant: Name to write into the report.
        bits: Width of an index, 1…16, the same for all tensors, or of vectors of d values a dth of
            it; or instead
        allocation: The file that `allocate` wrote, a width for each tensor.
        hessians: The file that `hessians` wrote of this model: values then make up for the errors
            of others. Without it, each takes its own nearest level.
        compensate: How they do.
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
    if "packed" in read_metadata(model):
        raise UserError(
            model,
            found="a file that is quantized already",
            expected="full-precision weights",
            remedy="Name the file that it was made from, or `flowquant export` it first.",
        )
    weights, config = read_weights(model)
    refuse_unusable(model, weights)
    torch_device = choose_device(device)
    moved = {name: tensor.to(torch_device) for name, tensor in weights.items()}
    names = _names(weights, config, method)
    bits = None if bits is None else plain(bits)
    widths: float | dict[str, float] = bits or 0
    if allocation is not None:
        widths = read_allocation(allocation, names)
    if not isinstance(widths, dict):
        check_width(widths, method)
    source = sha256(model)
    if hessians is None:
        quantized = quantize_contents(model, moved, names, method, widths)
    else:
        if config is None or method.scope != "matrices":
            raise UserError(
                "--hessians",
                found="compensation of weights that are not all known to be matrices",
                expected="a model file of flowquant's, and `--scope matrices`",
                remedy="Leave `--hessians` out, or import the checkpoint as a model first.",
            )
        given = widths if isinstance(widths, dict) else dict.fromkeys(sorted(names), widths)
        found = read_hessians(hessians, source, weights, config.condition)
        quantized = compensate_weights(model, moved, config, method, given, compensate, found)
    quantized |= _embedders(model, moved, config, method)
    tensors = {
        name: describe(content, weights[name], method.granularity)
        for name, content in quantized.items()
    }
    provenance: dict[str, Any] = {} if config is None else {"model": asdict(config)}
    provenance |= {
        "method": asdict(method),
        "bits": bits,
        "source_sha256": source,
        "tensors": tensors,
    }
    if hessians is not None:
        provenance["compensate"] = asdict(compensate)
    if output is None:
        width = "mixed" if bits is None else f"{bits:g}bit"
        output = model.with_suffix(f".{width}{model.suffix}")
    write_quantized(output, quantized, provenance)
    sizes = {
        "effective_bits": effective_bits(quantized),
        "bytes": output.stat().st_size,
        "full_bytes": model.stat().st_size,
    }
    if report is not None:
        named = {"dataset": dataset, "variant": variant, "training_seed": training_seed}
        named["method"] = asdict(method)
        if hessians is not None:
            named["compensate"] = asdict(compensate)
        write_json(report, named | sizes | {"tensors": tensors})
        return
    print(
        f"{output}: {len(names)} of {len(weights)} tensors quantized, "
        f"{sizes['effective_bits']:.3f} bits a value, {sizes['bytes']:,} bytes "
        f"of {sizes['full_bytes']:,}"
    )


def _names(
    weights: dict[str, Tensor], config: ModelConfig | None, method: MethodConfig
) -> set[str]:
    """Names of the weights to quantize, as the network says, or for want of one their names."""
    if config is not None:
        return selected(weights, config, method)
    scope = set(weights) if method.scope == "all" else factors_by_name(weights)
    return chosen(weights, scope, method)


def _embedders(
    model: Path, weights: dict[str, Tensor], config: ModelConfig | None, method: MethodConfig
) -> dict[str, Codebook | Tensor]:
    """The matrices that time and condition go through first, where they have a width."""
    if config is not None:
        with within_range(model):
            return quantize_embedders(weights, config, method)
    if method.embedders is None:
        return {}
    raise UserError(
        "--embedders",
        found=f"{method.embedders} for {model}, of which only the weights' names are known",
        expected="a model file of flowquant's",
        remedy="Leave `--embedders` out, or import the checkpoint as a model first.",
    )
