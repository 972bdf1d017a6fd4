"""Refinement on a GPU: captured and launched, with one codebook for all weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from flowquant.config.method import MethodConfig
from flowquant.config.refinement import RefineConfig
from flowquant.data.dataset import Split
from flowquant.models.model import build_network
from flowquant.quantization.apply import quantize_weights, selected
from flowquant.quantization.codebook import Codebook
from flowquant.training.refinement import Refinement
from near import distance
from tiny import TINY_MODEL

pytest.importorskip("triton")
CONFIG = RefineConfig(steps=12, batch=32, learning_rate=3e-3, precision="float32")
# In the second half, values of fixed levels take others, in the tensor that the capture reads.
KINDS = {
    "fixed": replace(CONFIG, rounds=1),
    "trained": replace(CONFIG, assignments="trained", damping=0.01),
}


def refined(
    device: torch.device,
    config: RefineConfig,
    bits: int,
    levels: str,
    launched: bool = False,
    steps: int = CONFIG.steps,
) -> Refinement:
    """After some steps."""
    torch.manual_seed(0)
    network = build_network(TINY_MODEL)
    full = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    method = MethodConfig(
        levels=levels, granularity="network", scope="matrices", keep=(), least_values=5
    )
    widths = dict.fromkeys(selected(full, TINY_MODEL, method), bits)
    images = torch.randint(256, (32, 1, 8, 8), dtype=torch.uint8)
    split = Split(images, torch.arange(32) % 3)
    quantized = dict(quantize_weights(full, method, widths))
    job = Refinement(full, quantized, TINY_MODEL, config, split, device)
    job._launched |= launched
    for _ in range(steps):
        job.step()
    return job


def parts(job: Refinement) -> tuple[Tensor, Tensor, Tensor]:
    """All that is trained of the codebooks, and the weights that it makes."""
    held = job.trainable
    scales = torch.cat([scales.flatten() for scales in held.scales])
    made = torch.cat([weight.flatten() for weight in held.expand().values()])
    (table,) = held.tables
    return table, scales, made


@pytest.mark.parametrize(("bits", "levels"), [(2, "lloyd"), (1, "vector:4")])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_captured_steps_are_the_launched_ones(
    device: torch.device, precision: Any, kind: str, bits: int, levels: str
) -> None:
    config = replace(KINDS[kind], precision=precision)
    captured = refined(device, config, bits, levels)
    assert captured._graph is not None
    launched = refined(device, config, bits, levels, launched=True)
    assert launched._graph is None
    assert captured._total.item() == pytest.approx(launched._total.item(), rel=1e-2)
    start = refined(device, config, bits, levels, steps=0)
    for found, wanted, before in zip(*map(parts, (captured, launched, start)), strict=True):
        assert distance(found, wanted) < 0.1 * distance(before, wanted)
    # Written, too, as what all share.
    books = [book for book in captured.result().values() if isinstance(book, Codebook)]
    assert len(books) >= 5
    assert all(book.common and book.levels.equal(books[0].levels) for book in books)
