"""Quantize a model's weights and write them packed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from flowquant.artifacts import sha256, write_json
from flowquant.cli import run
from flowquant.codebook import (
    Codebook,
    effective_bits,
    group_size,
    write_quantized,
)
from flowquant.device import DeviceName, choose_device
from flowquant.levels import QUANTIZERS
from flowquant.model import ModelConfig, read_model
from flowquant.network import linear_weights


@dataclass(frozen=True)
class MethodConfig:
    """A quantization method (a row under ``methods`` in the configuration).

    ``scope``: every parameter, or only the weights of linear layers and convolutions; less those
    that a pattern of ``keep`` matches (``*`` matches anything) or that hold fewer than
    ``least_values`` values.
    """

    levels: str
    granularity: str
    scope: Literal["all", "linear"]
    keep: tuple[str, ...]
    least_values: int


def quantize_tensor(tensor: Tensor, method: MethodConfig, bits: int) -> Codebook:
    """Quantize one tensor with at most 2^bits levels for each of its groups."""
    shape = tuple(tensor.shape)
    groups = tensor.reshape(-1, group_size(shape, method.granularity))
    levels, indices = QUANTIZERS[method.levels](groups, 2**bits)
    return Codebook(levels, indices, shape).compact()


def selected(weights: dict[str, Tensor], config: ModelConfig, method: MethodConfig) -> set[str]:
    """Names of the weights that the method quantizes."""
    scope = set(weights) if method.scope == "all" else linear_weights(config.build_empty())
    return {
        name
        for name, tensor in weights.items()
        if name in scope
        and tensor.numel() >= method.least_values
        and not any(fnmatchcase(name, pattern) for pattern in method.keep)
    }


def quantize_weights(
    weights: dict[str, Tensor], config: ModelConfig, method: MethodConfig, bits: int
) -> dict[str, Codebook | Tensor]:
    """Quantize the weights that the method selects; the others stay as they are."""
    chosen = selected(weights, config, method)
    return {
        name: quantize_tensor(tensor, method, bits) if name in chosen else tensor
        for name, tensor in weights.items()
    }


def quantize(
    model: Path,
    output: Path,
    report: Path,
    method: MethodConfig,
    bits: int,
    dataset: str,
    variant: str,
    device: DeviceName = "auto",
) -> None:
    """Quantize a model file and write the packed file and a report of its size and error.

    Args:
        model: Model file.
        output: The packed file to write (format: docs/format.md).
        report: JSON to write: effective bits, bytes, and the squared error of each tensor.
        method: Which levels, for which parameters.
        bits: Width of an index, 1…16.
        dataset: Name to write into the report.
        variant: Name to write into the report.
        device: Where to compute.

    Raises:
        UserError: if the model is unreadable or not finite.
    """
    weights, config = read_model(model)
    where = choose_device(device)
    quantized = quantize_weights(
        {name: tensor.to(where) for name, tensor in weights.items()}, config, method, bits
    )
    provenance = {
        "model": asdict(config),
        "method": asdict(method),
        "bits": bits,
        "source_sha256": sha256(model),
        "effective_bits": effective_bits(quantized),
    }
    write_quantized(output, quantized, provenance)
    write_json(
        report,
        {
            "dataset": dataset,
            "variant": variant,
            "effective_bits": provenance["effective_bits"],
            "bytes": output.stat().st_size,
            "full_bytes": model.stat().st_size,
            "tensors": {
                name: _describe(content, weights[name]) for name, content in quantized.items()
            },
        },
    )


def _describe(content: Codebook | Tensor, weights: Tensor) -> dict[str, Any]:
    if not isinstance(content, Codebook):
        return {"values": weights.numel(), "bits": 32, "mean_squared_error": 0.0}
    error = content.expand().cpu().double() - weights.double()
    return {
        "values": weights.numel(),
        "bits": content.bits,
        "levels": content.levels.shape[1],
        "groups": content.levels.shape[0],
        "mean_squared_error": error.square().mean().item(),
    }


if __name__ == "__main__":
    run(quantize)
