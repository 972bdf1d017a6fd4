"""Measure quantizing a model at every width, and running it packed, on this machine."""

from pathlib import Path
from typing import Any, Literal

from flowquant.benchmark.bench import machine
from flowquant.benchmark.packed import BATCHES, as_rows, evaluations
from flowquant.benchmark.quantizing import seconds_by_width
from flowquant.models.model import read_model
from flowquant.quantization.levels import QUANTIZERS
from flowquant.runtime import workspaces
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import write_json
from flowquant.runtime.names import DeviceName


def benchmark_quantizers(
    output: Path,
    model: Path,
    device: DeviceName = "auto",
    rows: bool = False,
    parts: tuple[Literal["quantizing", "running"], ...] = ("quantizing", "running"),
) -> None:
    """Measure quantizing at every width, and running packed.

    Args:
        output: JSON to write.
        model: Model file.
        device: Where to compute.
        rows: Measure levels for each row too.
        parts: What to measure.
    """
    workspaces.do_without()  # As `sample` does.
    target = choose_device(device)
    weights, config = read_model(model)
    results: dict[str, Any] = {
        **machine(target),
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "levels": sorted(QUANTIZERS),
    }
    if "quantizing" in parts:
        results["quantizing_seconds"] = seconds_by_width(weights, target, rows)
    if "running" in parts:
        results["running"] = as_rows(evaluations(weights, config, target, BATCHES))
    write_json(output, results)
