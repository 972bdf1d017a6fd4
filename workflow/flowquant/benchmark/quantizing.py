"""Quantizing a model's weights, timed: beside the baseline, and at every width."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from flowquant.benchmark.baseline import quantize_all_by_ranks
from flowquant.benchmark.bench import RUNS, Bench
from flowquant.benchmark.comparison import Comparison, Duration
from flowquant.benchmark.timing import measure
from flowquant.config.method import LevelsName, MethodConfig
from flowquant.quantization.apply import quantize_weights

# Share of the budget for each of the measurements.
QUANTIZING = 0.025


def compare_quantizing(bench: Bench) -> list[Comparison]:
    """The whole model, each tensor by itself: equal mass by NumPy, and this project's levels."""
    weights = bench.weights()
    moved = {name: tensor.to(bench.device) for name, tensor in weights.items()}
    cpu = torch.device("cpu")
    baseline = {
        bits: _whole_model(bench, weights, partial(quantize_all_by_ranks, bits=bits), cpu)
        for bits in (2, 8, 16)
    }
    compared = []
    methods: tuple[tuple[LevelsName, str, tuple[int, ...]], ...] = (
        ("equal_mass", "equal mass", (2, 8, 16)),
        ("lloyd", "k-means (published: equal mass)", (2, 8)),
    )
    for levels, name, widths in methods:
        for bits in widths:
            work = partial(_quantize, levels=levels, granularity="tensor", bits=bits)
            project = _whole_model(bench, moved, work, bench.device)
            what = f"quantizing, {bits} bits, {name}"
            compared.append(Comparison(what, 1, "s", baseline[bits], project))
    return compared


def seconds_by_width(
    weights: Mapping[str, Tensor], device: torch.device, rows: bool
) -> dict[str, Any]:
    """Seconds to quantize all weights, for each tensor (and row), at 1 to 8 and 16 bits."""
    moved = {name: tensor.to(device) for name, tensor in weights.items()}
    compared: dict[tuple[LevelsName, str], Sequence[int]] = {
        ("equal_mass", "tensor"): (*range(1, 9), 16),
        ("lloyd", "tensor"): range(1, 9),
    }
    if rows:
        compared["lloyd", "row"] = range(1, 9)
    found: dict[str, Any] = {}
    for (levels, granularity), widths in compared.items():
        seconds = found[f"{levels}, {granularity}"] = {}
        for bits in tqdm(widths, desc=f"{levels} {granularity}"):
            work = partial(_quantize, moved, levels, granularity, bits)
            seconds[bits] = round(measure(work, device, budget=0, least=1).seconds, 3)
    started = time.perf_counter()
    quantize_all_by_ranks(weights, 16)
    found["double argsort, 16 bits"] = round(time.perf_counter() - started, 3)
    return found


def _quantize(
    weights: Mapping[str, Tensor], levels: LevelsName, granularity: str, bits: int
) -> None:
    method = MethodConfig(
        levels=levels, granularity=granularity, scope="all", keep=(), least_values=5
    )
    quantize_weights(weights, method, dict.fromkeys(weights, bits))


def _whole_model(
    bench: Bench,
    weights: Mapping[str, Tensor],
    work: Callable[[Mapping[str, Tensor]], object],
    device: torch.device,
) -> Duration:
    """How long work on the whole model takes, from as many tensors as the budget allows."""
    budget = QUANTIZING * bench.seconds
    names = sorted(weights, key=lambda name: weights[name].numel(), reverse=True)
    sizes = [weights[name].numel() for name in names]
    one = measure(lambda: work({names[0]: weights[names[0]]}), device, 0, least=1)
    affordable = budget / RUNS / one.seconds * sizes[0]
    # A GPU takes the whole at once, not tensor by tensor.
    if sum(sizes) <= affordable or device.type == "cuda":
        timing = measure(lambda: work(weights), device, budget)
        return Duration(timing.seconds, timing)
    count = max(1, sum(total <= affordable for total in accumulate(sizes)))
    part = {name: weights[name] for name in names[:count]}
    timing = one if count == 1 else measure(lambda: work(part), device, budget)
    portion = f"the {count} largest of {len(names)} tensors, by their values"
    seconds = timing.seconds * sum(sizes) / sum(sizes[:count])
    return Duration(seconds, timing, extrapolated_from=portion)
