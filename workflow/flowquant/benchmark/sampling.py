"""Sampling by the baseline and by this project, and single evaluations, timed."""

from dataclasses import replace

import torch

from flowquant.benchmark.baseline import baseline_network, sample_one
from flowquant.benchmark.bench import RUNS, Bench
from flowquant.benchmark.ceiling import E4M3
from flowquant.benchmark.comparison import Comparison, Duration
from flowquant.benchmark.flops import forward_flops
from flowquant.benchmark.packed import BATCHES, Evaluation, evaluations
from flowquant.benchmark.timing import measure
from flowquant.config.sampling import SolverConfig
from flowquant.data.pixels import to_uint8
from flowquant.models.model import load_network
from flowquant.models.path import initial_noise
from flowquant.runtime import workspaces
from flowquant.runtime.device import has_fp8, make_current
from flowquant.runtime.processes import helpers
from flowquant.sampling.sampler import Sampler

# Shares of the budget for the baseline's work, for this project's, and for single evaluations.
SAMPLING = 0.1
EVALUATIONS = 0.1


def compare_sampling(
    bench: Bench, solver: SolverConfig, total: int, most: int
) -> tuple[list[Comparison], list[Evaluation]]:
    """``total`` images: one at a time by the baseline, together by this project, both by Euler.

    Both take as many steps as ``solver`` says; this project computes in its precision, and where a
    GPU has it in FP8, too. On a CPU it samples at most ``most`` images at a time, on a GPU all.
    Single evaluations are this project's.
    """
    baseline = _one_at_a_time(bench, total, solver.steps)
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    # As `sample` does, this project samples in a process of its own.
    with helpers(_by_itself, [(bench, solver, total, most, baseline)]) as results:
        ((compared, evaluated),) = results()
    return compared, evaluated


def _by_itself(
    bench: Bench, solver: SolverConfig, total: int, most: int, baseline: Duration
) -> tuple[list[Comparison], list[Evaluation]]:
    """What this project takes, in a process that does nothing else."""
    workspaces.do_without()
    make_current(bench.device)
    found = [_together(bench, solver, total, most, baseline)]
    if solver.precision != "fp8" and has_fp8(bench.device):
        found.append(_together(bench, replace(solver, precision="fp8"), total, most, baseline))
    affordable = bench.affordable(forward_flops(bench.model, 1, 1), EVALUATIONS)
    batches = [count for count in BATCHES if count <= affordable] or [1]
    budget = EVALUATIONS * bench.seconds
    return found, evaluations(bench.weights(), bench.model, bench.device, batches, budget)


def _together(
    bench: Bench, solver: SolverConfig, total: int, most: int, baseline: Duration
) -> Comparison:
    """Many images at a time by this project, beside the baseline."""
    model, device, labels = bench.model, bench.device, bench.random_split(total).labels
    pieces = bench.affordable(forward_flops(model, 1, 1), SAMPLING)
    # A few steps of many images say more than many steps of a few.
    images = min(total, max(1, pieces // min(4, solver.steps)))
    steps = min(solver.steps, max(1, pieces // images))
    batch = images if device.type == "cuda" else min(images, most)
    settings = SolverConfig(solver="euler", steps=steps, precision=solver.precision)
    sampler = Sampler(load_network(bench.weights(), model), model.flow, settings, device)
    shape = (model.image.channels, model.image.size, model.image.size)

    def together() -> None:
        for start in range(0, images, batch):
            rows = range(start, min(start + batch, images))
            noise = initial_noise(model.flow, bench.seed, rows, shape)
            to_uint8(sampler(noise, labels[rows.start : rows.stop])).cpu()

    timing = measure(together, device, SAMPLING * bench.seconds)
    part = None
    if (images, steps) != (total, solver.steps):
        part = f"{images} of {total} images × {steps} of {solver.steps} steps"
    scale = total / images * solver.steps / steps
    what = f"sampling, {total} images × {solver.steps} steps"
    fp8 = solver.precision == "fp8" and has_fp8(device)
    project = Duration(timing.seconds * scale, timing, baseline.flops, part)
    ceiling = bench.own_shapes(batch, E4M3 if fp8 else None)
    return Comparison(
        f"{what}, FP8" if fp8 else what, total, "images/s", baseline, project, ceiling
    )


def _one_at_a_time(bench: Bench, total: int, steps: int) -> Duration:
    """How long the baseline takes for all images, from as many steps as the budget allows."""
    device, flow, labels = bench.device, bench.model.flow, bench.random_split(total).labels
    network = baseline_network(bench.model)
    network.load_state_dict(bench.weights())
    network = network.to(device).eval()
    image, size = bench.model.image, bench.model.image.size
    done = 0

    def one(taken: int) -> None:
        nonlocal done
        noise = torch.randn(1, image.channels, size, size, device=device) * flow.sigma
        label = labels[done % total][None].to(device)
        to_uint8(sample_one(network, flow, noise, label, steps, taken)).cpu()
        done += 1

    probed = min(2, steps)
    a_step = measure(lambda: one(probed), device, 0, least=1).seconds / probed
    budget = SAMPLING * bench.seconds
    taken = max(1, min(steps, int(budget / RUNS / a_step)))
    timing = measure(lambda: one(taken), device, budget)
    part = (
        f"{min(total, timing.repeats * timing.runs)} of {total} images × "
        f"{taken} of {steps} steps, one at a time"
    )
    flops = total * steps * forward_flops(bench.model, 1, 1)
    return Duration(timing.seconds * total * steps / taken, timing, flops, part)
