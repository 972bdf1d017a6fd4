"""Quantize a model's matrices by a peer, another project's own code, to compare with."""

import time
from pathlib import Path
from typing import Any

from torch import Tensor

from flowquant.config.fields import Bits
from flowquant.config.method import RECOMMENDED
from flowquant.config.peer import PeerConfig
from flowquant.models.model import read_model, write_model
from flowquant.quantization.apply import as_float, selected, within_range
from flowquant.quantization.codebook import bits_of
from flowquant.quantization.describe import errors
from flowquant.quantization.peer import quantize_by_peer
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import sha256, write_json
from flowquant.runtime.names import DeviceName

ALONE = PeerConfig()


def quantize_peer(
    model: Path,
    output: Path,
    report: Path,
    program: Path,
    bits: Bits,
    settings: PeerConfig = ALONE,
    dataset: str = "",
    variant: str = "",
    training_seed: int = 0,
    device: DeviceName = "auto",
) -> None:
    """Have a peer's program quantize the weights of linear layers, attention and convolutions.

    All else is stored in float16. What the weights become is written plainly, as a model file; the
    bytes are those that the peer itself would store.

    Args:
        model: Model file.
        output: Model file to write, of the weights as the peer reads them back, in float32.
        report: JSON to write: effective bits and bytes as counted, squared error of each tensor.
        program: Of the peer, as `flowquant.quantization.peer` calls it.
        bits: Width of an index.
        settings: What else the peer is told.
        dataset: Name to write into the report.
        training_seed: The seed that the model was trained with, to write into the report.
        variant: Name to write into the report.
        device: Where to compute.

    Raises:
        UserError: if the peer is not installed or fails, or a value is beyond float16.
    """
    weights, config = read_model(model)
    chosen = selected(weights, config, RECOMMENDED)
    words = [f"--bits={bits}", f"--device={choose_device(device)}"]
    for name, value in settings.said.items():
        words.append(f"--{name}" if value is True else f"--{name}={value}")
    started = time.perf_counter()
    matrices = {name: tensor for name, tensor in weights.items() if name in chosen}
    quantized, counts = quantize_by_peer(program, matrices, words, output)
    seconds = time.perf_counter() - started
    values: dict[str, Tensor] = {}
    tensors: dict[str, dict[str, Any]] = {}
    size = 0
    for name, original in weights.items():
        if name in chosen:
            values[name], parts = quantized[name], counts.tensors[name]
        else:
            with within_range(model):
                values[name] = as_float(name, original, RECOMMENDED)
            parts = {"values": bits_of(values[name]) // 8}
        tensors[name] = {"values": original.numel(), "bytes": sum(parts.values()), "parts": parts}
        tensors[name] |= errors(values[name], original)
        size += sum(parts.values())
    about = {"peer": counts.package, "bits": bits, "settings": settings.said}
    write_model(output, values, config, {"quantized": about, "source_sha256": sha256(model)})
    write_json(
        report,
        {
            "dataset": dataset,
            "variant": variant,
            "training_seed": training_seed,
            **about,
            "effective_bits": 8 * size / sum(tensor.numel() for tensor in weights.values()),
            "bytes": size,
            "counted": True,
            "full_bytes": model.stat().st_size,
            "seconds": seconds,
            "tensors": tensors,
        },
    )
