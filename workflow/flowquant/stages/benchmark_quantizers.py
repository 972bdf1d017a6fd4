"""Measure quantization, packed sampling and refinement of a model on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from flowquant.benchmark.baseline import quantize_all_by_ranks
from flowquant.benchmark.timing import measure
from flowquant.config.method import MethodConfig
from flowquant.config.model import ModelConfig
from flowquant.models.model import load_network, read_model
from flowquant.models.path import velocity
from flowquant.quantization.apply import quantize_weights, selected
from flowquant.quantization.levels import QUANTIZERS
from flowquant.quantization.packed_file import read_packed, write_quantized
from flowquant.quantization.packed_network import PackedLinear, load_packed
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import write_json
from flowquant.runtime.names import DeviceName

MIB = 1 << 20


def quantizing(weights: dict[str, Tensor], device: torch.device, rows: bool) -> dict[str, Any]:
    """Seconds to quantize all weights, per tensor (and per row), at 1 to 8 and 16 bits."""
    moved = {name: tensor.to(device) for name, tensor in weights.items()}
    found: dict[str, Any] = {}
    for granularity in ("tensor", "row") if rows else ("tensor",):
        for levels in ("equal_mass", "lloyd") if granularity == "tensor" else ("lloyd",):
            method = MethodConfig(levels, granularity, "all", (), 5)
            widths = (*range(1, 9), 16) if levels == "equal_mass" else range(1, 9)
            for bits in tqdm(widths, desc=f"{levels} {granularity}"):
                table = dict.fromkeys(weights, bits)

                def work(method: MethodConfig = method, table: dict[str, int] = table) -> None:
                    quantize_weights(moved, method, table)

                timing = measure(work, device, budget=0, least=1)
                found.setdefault(f"{levels}, {granularity}", {})[bits] = round(timing.seconds, 3)
    started = time.perf_counter()
    quantize_all_by_ranks(weights, 16)
    found["double argsort, 16 bits"] = round(time.perf_counter() - started, 3)
    return found


def agreement(device: torch.device) -> dict[str, float]:
    """Largest relative difference of the fused kernel from expand-then-multiply, in bfloat16."""
    from flowquant.quantization.packed_file import PackedTensor
    from flowquant.quantization.packing import pack

    worst = {}
    for bits in (1, 2, 4, 8):
        for groups in (1, 2048):
            index = torch.randint(2**bits, (2048, 384))
            weight = PackedTensor(
                pack(index, bits), torch.randn(groups, 2**bits), bits, (2048, 384)
            )
            layer = PackedLinear(weight, torch.randn(2048)).to(device)
            x = torch.randn(1000, 384, device=device, dtype=torch.bfloat16)
            wanted = nn.functional.linear(
                x.float(), layer.expand(torch.bfloat16).float(), layer.bias
            )
            found = layer.fused(x).float()
            difference = (found - wanted).abs().max() / wanted.abs().max()
            worst[f"{bits} bits, {groups} groups"] = difference.item()
    return worst


@torch.inference_mode()
def running(
    full: dict[str, Tensor], config: ModelConfig, device: torch.device, folder: Path
) -> dict[str, Any]:
    """Memory and time of one velocity evaluation, expanded and packed at 1, 2, 4 and 8 bits."""
    results: dict[str, Any] = {}
    shape = (config.image.channels, config.image.size, config.image.size)

    def note(name: str, network: nn.Module, weight_bytes: int) -> None:
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        for batch in (1, 16, 256, 1000):
            x = torch.randn(batch, *shape, device=device)
            condition = torch.zeros(batch, dtype=torch.int64, device=device)
            if config.condition.kind == "attributes":
                condition = condition[:, None].expand(-1, config.condition.count)
            t = torch.full((batch,), 0.5, device=device)

            def evaluate(x: Tensor = x, t: Tensor = t, c: Tensor = condition) -> None:
                with torch.autocast(device.type, dtype, enabled=dtype == torch.bfloat16):
                    velocity(network, config.flow, x, t, c)

            row = {
                "weights_mib": weight_bytes / MIB,
                "seconds": measure(evaluate, device, 0).seconds,
            }
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                evaluate()
                row["peak_mib"] = torch.cuda.max_memory_allocated() / MIB
            results[f"{name}, batch {batch}"] = row

    def size(network: nn.Module) -> int:
        held = [*network.parameters(), *network.buffers()]
        return sum(tensor.numel() * tensor.element_size() for tensor in held)

    network = load_network({n: t.to(device) for n, t in full.items()}, config)
    note("full", network, size(network))
    del network
    for bits in (1, 2, 4, 8):
        method = MethodConfig("uniform", "row", "linear", (), 5, "float16", "float16")
        widths = dict.fromkeys(selected(full, config, method), bits)
        path = folder / f"{bits}bit.safetensors"
        write_quantized(path, quantize_weights(full, method, widths), {"tensors": {}})
        packed = load_packed(read_packed(path)[0], config).to(device)
        note(f"packed {bits} bits", packed, size(packed))
        results[f"packed {bits} bits"] = {"file_mib": path.stat().st_size / MIB}
        if device.type == "cuda":
            results[f"kernels {bits} bits"] = kernels(packed, device)
        del packed
    return results


def kernels(network: nn.Module, device: torch.device) -> dict[str, Any]:
    """Seconds of the widest packed layer by the fused kernel and by expand-then-multiply."""
    layer = max(
        (m for m in network.modules() if isinstance(m, PackedLinear)), key=lambda m: m.shape[0]
    )
    bias = None if layer.bias is None else layer.bias.bfloat16()
    found = {}
    for tokens in (16, 128, 1024, 12544, 49000):
        x = torch.randn(tokens, layer.shape[1], device=device, dtype=torch.bfloat16)

        def expanded(x: Tensor = x) -> Tensor:
            return nn.functional.linear(x, layer.expand(x.dtype), bias)

        def fused(x: Tensor = x) -> Tensor:
            return layer.fused(x)

        found[str(tokens)] = {
            "fused": measure(fused, device, 0, 10).seconds,
            "expanded": measure(expanded, device, 0, 10).seconds,
        }
    return found


def benchmark_quantizers(
    output: Path,
    model: Path,
    device: DeviceName = "auto",
    rows: bool = False,
    parts: tuple[Literal["quantizing", "running", "agreement"], ...] = ("quantizing", "running"),
) -> None:
    """Measure quantizing at every width, and running packed.

    Args:
        output: JSON to write; packed files are left beside it.
        model: Model file.
        device: Where to compute.
        rows: Measure levels for each row too.
        parts: What to measure; ``agreement`` of the fused kernel needs a GPU.

    Raises:
        UserError: if the model is unreadable.
    """
    where = choose_device(device)
    weights, config = read_model(model)
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if where.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "levels": sorted(QUANTIZERS),
    }
    if "quantizing" in parts:
        results["quantizing_seconds"] = quantizing(weights, where, rows)
    if "agreement" in parts:
        results["agreement"] = agreement(where)
    if "running" in parts:
        results["running"] = running(weights, config, where, output.parent)
    write_json(output, results)
