"""One evaluation while sampling, by the form of the weights in memory and the images at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flowquant.benchmark.timing import Timing, measure
from flowquant.config.method import MethodConfig
from flowquant.config.model import ModelConfig
from flowquant.config.sampling import SolverConfig
from flowquant.models.model import load_network
from flowquant.models.path import initial_noise
from flowquant.quantization.apply import quantize_weights, selected
from flowquant.quantization.codebook import Codebook, stored_bits
from flowquant.quantization.packed_file import PackedTensor
from flowquant.quantization.packed_network import load_packed
from flowquant.report.tables import markdown
from flowquant.runtime.device import concrete, has_fp8
from flowquant.runtime.names import SamplingPrecision
from flowquant.sampling.sampler import Sampler

MIB = 1 << 20
# Widths of indices that are packed.
WIDTHS = (1, 2, 3, 4, 8)
# Images of an evaluation.
BATCHES = (1, 256, 1000)
# Evaluations that are timed together, as sampling makes them.
STEPS = {"cuda": 20, "cpu": 1}
ROWS = MethodConfig(
    levels="uniform",
    granularity="row",
    scope="matrices",
    keep=(),
    least_values=5,
    levels_dtype="float16",
    float_dtype="float16",
)


@dataclass(frozen=True)
class Evaluation:
    """How long an evaluation took, and what memory.

    Attributes:
        weights: Their form: ``full``, or ``2 bits`` and so on, packed.
        precision: That was computed in.
        images: At a time.
        timing: Of an evaluation.
        weights_mib: Of the network's weights between evaluations.
        stored_mib: Of those in a file; nothing for ``full``.
        peak_mib: Of a GPU, while sampling.
    """

    weights: str
    precision: str
    images: int
    timing: Timing
    weights_mib: float
    stored_mib: float | None
    peak_mib: float | None


@torch.inference_mode()
def evaluations(
    full: Mapping[str, Tensor],
    config: ModelConfig,
    device: torch.device,
    batches: Sequence[int],
    budget: float = 0.0,
) -> list[Evaluation]:
    """Full weights and packed ones at each width, in each precision and at each batch.

    The full weights are on the CPU; ``budget`` is in seconds, of all together.
    """
    precisions: list[SamplingPrecision] = [concrete(device, "auto")]
    if has_fp8(device):
        precisions.append("fp8")
    found = []
    each = budget / ((1 + len(WIDTHS)) * len(precisions) * len(batches))
    for name, stored, network in _networks(full, config):
        for precision in precisions:
            for images in batches:
                timing, peak = _sampled(network, config, device, precision, images, each)
                held = [*network.parameters(), *network.buffers()]
                size = sum(tensor.numel() * tensor.element_size() for tensor in held)
                found.append(Evaluation(name, precision, images, timing, size / MIB, stored, peak))
    return found


def _networks(
    full: Mapping[str, Tensor], config: ModelConfig
) -> Iterator[tuple[str, float | None, nn.Module]]:
    """Names, MiB as stored, and networks, one at a time."""
    yield "full", None, load_network(full, config)
    for bits in WIDTHS:
        quantized = quantize_weights(full, ROWS, dict.fromkeys(selected(full, config, ROWS), bits))
        contents = {
            name: PackedTensor.of(content) if isinstance(content, Codebook) else content
            for name, content in quantized.items()
        }
        stored = stored_bits(contents) / 8 / MIB
        yield f"{bits} bit{'s' * (bits > 1)}", stored, load_packed(contents, config)


def _sampled(
    network: nn.Module,
    config: ModelConfig,
    device: torch.device,
    precision: SamplingPrecision,
    images: int,
    budget: float,
) -> tuple[Timing, float | None]:
    """The time of an evaluation, and the peak of a GPU's memory in MiB."""
    steps = STEPS[device.type]
    settings = SolverConfig(solver="euler", steps=steps, precision=precision)
    sampler = Sampler(network, config.flow, settings, device)
    shape = (config.image.channels, config.image.size, config.image.size)
    noise = initial_noise(config.flow, 0, range(images), shape).to(device)
    condition = torch.zeros(images, dtype=torch.int64, device=device)
    if config.condition.kind == "attributes":
        condition = condition[:, None].expand(-1, config.condition.count)
    timing = measure(lambda: sampler(noise, condition), device, budget)
    peak = None
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        sampler(noise, condition)
        peak = torch.cuda.max_memory_allocated() / MIB
    one = Timing(timing.seconds / steps, timing.repeats, timing.runs * steps, timing.spread / steps)
    return one, peak


def as_rows(found: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Evaluations as a report has them."""
    return [asdict(evaluation) for evaluation in found]


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of milliseconds: a row for each form and precision, a column for each batch."""
    batches = list(dict.fromkeys(row["images"] for row in rows))
    kinds = dict.fromkeys((row["weights"], row["precision"]) for row in rows)
    cells = []
    for weights, precision in kinds:
        own = [row for row in rows if (row["weights"], row["precision"]) == (weights, precision)]
        times = {row["images"]: row["timing"] for row in own}
        cells.append(
            [
                weights if weights == "full" else f"{weights}, packed",
                precision,
                f"{own[0]['weights_mib']:.3g}",
                *(
                    f"{times[b]['seconds'] * 1e3:.3g} ± {times[b]['spread'] * 1e3:.1g}"
                    for b in batches
                ),
            ]
        )
    titles = ["weights", "computed in", "MiB", *(f"ms, batch {batch:,}" for batch in batches)]
    return markdown(titles, cells, padded=True)
