"""Packed networks: their memory and speed, and the fused kernel's speed and error."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowquant.benchmark.timing import measure
from flowquant.config.method import MethodConfig
from flowquant.config.model import ModelConfig
from flowquant.models.model import load_network
from flowquant.models.path import velocity
from flowquant.quantization.apply import quantize_weights, selected
from flowquant.quantization.packed_file import PackedTensor, read_packed, write_quantized
from flowquant.quantization.packed_network import (
    PackedWeight,
    expanded_linear,
    fused_linear,
    load_packed,
)
from flowquant.quantization.packing import pack

MIB = 1 << 20
# Widths that are packed: the kernel reads those that divide a byte.
WIDTHS = (1, 2, 4, 8)
# Images of a velocity evaluation.
BATCHES = (1, 16, 256, 1000)
# Rows that one packed layer multiplies.
TOKENS = (16, 128, 1024, 12544, 49000)


def kernel_errors(device: torch.device) -> dict[str, float]:
    """Largest relative difference of the fused kernel from expand-then-multiply, in bfloat16."""
    worst = {}
    for bits in WIDTHS:
        for groups in (1, 2048):
            indices = torch.randint(2**bits, (2048, 384))
            levels = torch.randn(groups, 2**bits)
            weight = PackedTensor(pack(indices, bits), levels, bits, (2048, 384))
            packed, bias = PackedWeight(weight).to(device), torch.randn(2048, device=device)
            x = torch.randn(1000, 384, device=device, dtype=torch.bfloat16)
            expanded = packed.expand(torch.bfloat16).float()
            expected = nn.functional.linear(x.float(), expanded, bias)
            difference = (
                fused_linear(x, packed, bias).float() - expected
            ).abs().max() / expected.abs().max()
            worst[f"{bits} bits, {groups} groups"] = difference.item()
    return worst


@torch.inference_mode()
def evaluations(
    full: Mapping[str, Tensor], config: ModelConfig, device: torch.device, folder: Path
) -> dict[str, Any]:
    """Memory and time of one velocity evaluation, expanded and packed at each width.

    The full weights are on the CPU. Packed files are written into ``folder``, and stay.
    """
    network = load_network({name: tensor.to(device) for name, tensor in full.items()}, config)
    found = _by_batch("full", network, config, device)
    del network
    method = MethodConfig(
        levels="uniform",
        granularity="row",
        scope="matrices",
        keep=(),
        least_values=5,
        levels_dtype="float16",
        float_dtype="float16",
    )
    for bits in WIDTHS:
        name, path = f"packed {bits} bits", folder / f"{bits}bit.safetensors"
        widths = dict.fromkeys(selected(full, config, method), bits)
        metadata = {"model": asdict(config), "method": asdict(method), "bits": bits}
        metadata |= {"source_sha256": "", "tensors": {}}
        write_quantized(path, quantize_weights(full, method, widths), metadata)
        packed = load_packed(read_packed(path)[0], config).to(device)
        found |= _by_batch(name, packed, config, device)
        found[name] = {"file_mib": path.stat().st_size / MIB}
        if device.type == "cuda":
            found[f"kernels {bits} bits"] = _kernel_seconds(packed, device)
        del packed
    return found


def _by_batch(
    name: str, network: nn.Module, config: ModelConfig, device: torch.device
) -> dict[str, Any]:
    """Memory and time of an evaluation of the network, by the number of images."""
    held = [*network.parameters(), *network.buffers()]
    weight_bytes = sum(tensor.numel() * tensor.element_size() for tensor in held)
    rows = {}
    for batch in BATCHES:
        evaluate = partial(_evaluate, network, config, *_inputs(config, batch, device))
        seconds = measure(evaluate, device, 0).seconds
        row = {"weights_mib": weight_bytes / MIB, "seconds": seconds}
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            evaluate()
            row["peak_mib"] = torch.cuda.max_memory_allocated() / MIB
        rows[f"{name}, batch {batch}"] = row
    return rows


def _inputs(config: ModelConfig, batch: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Noise [B, C, H, W], times [B], and the first class [B] or no attributes [B, A]."""
    image = config.image
    x = torch.randn(batch, image.channels, image.size, image.size, device=device)
    condition = torch.zeros(batch, dtype=torch.int64, device=device)
    if config.condition.kind == "attributes":
        condition = condition[:, None].expand(-1, config.condition.count)
    return x, torch.full((batch,), 0.5, device=device), condition


def _evaluate(
    network: nn.Module, config: ModelConfig, x: Tensor, t: Tensor, condition: Tensor
) -> None:
    """One velocity, on a GPU in bfloat16."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
        velocity(network, config.flow, x, t, condition)


def _kernel_seconds(network: nn.Module, device: torch.device) -> dict[str, Any]:
    """Seconds of the widest packed matrix by the fused kernel and by expand-then-multiply."""
    packed = (module for module in network.modules() if isinstance(module, PackedWeight))
    widest = max((m for m in packed if len(m.shape) == 2), key=lambda module: module.shape[0])
    bias = torch.randn(widest.shape[0], device=device, dtype=torch.bfloat16)
    found = {}
    for tokens in TOKENS:
        x = torch.randn(tokens, widest.shape[1], device=device, dtype=torch.bfloat16)
        found[str(tokens)] = {
            name: measure(partial(way, x, widest, bias), device, 0, 10).seconds
            for name, way in (("fused", fused_linear), ("expanded", expanded_linear))
        }
    return found
