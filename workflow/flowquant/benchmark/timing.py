"""How long work takes on a device: the median of repeats after a warm-up, the device waited for."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

# Work shorter than this is timed several runs at a time, as a pipeline would queue it.
BURST_SECONDS = 0.05
# Runs timed at a time.
MOST_RUNS = 1000
# Timings that the median is taken of.
MOST_REPEATS = 50


@dataclass(frozen=True)
class Timing:
    """Median seconds of a run, over ``repeats`` of ``runs`` queued one after another.

    ``spread`` is the distance of the quartiles of the repeats, in seconds.
    """

    seconds: float
    repeats: int
    runs: int
    spread: float = 0.0


def _timed(work: Callable[[], object], runs: int, device: torch.device) -> float:
    """Seconds of a run, over ``runs`` one after another."""
    _wait(device)
    started = time.perf_counter()
    for _ in range(runs):
        work()
    _wait(device)
    return (time.perf_counter() - started) / runs


def _wait(device: torch.device) -> None:
    """Let the device finish what is queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(
    work: Callable[[], object], device: torch.device, budget: float, least: int = 3
) -> Timing:
    """Time ``work`` repeatedly for ``budget`` seconds, but at least ``least`` times.

    A first run counts neither as a timing nor towards the budget: it compiles, captures and
    allocates.
    """
    work()
    once = _timed(work, 1, device)
    end = time.perf_counter() + budget - once
    runs = max(1, min(MOST_RUNS, round(BURST_SECONDS / max(once, 1e-9))))
    times = [once] if runs == 1 else []
    while len(times) < least or (time.perf_counter() < end and len(times) < MOST_REPEATS):
        times.append(_timed(work, runs, device))
    spread = 0.0
    if len(times) > 1:
        first, _, third = statistics.quantiles(times, method="inclusive")
        spread = third - first
    return Timing(statistics.median(times), len(times), runs, spread)
