"""A CPU that is asked to samples in bfloat16, near what it does in float32; packed weights too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import flowquant
from flowquant.config.method import RECOMMENDED
from flowquant.config.sampling import SolverConfig
from flowquant.models.model import build_network, load_network
from flowquant.quantization.apply import quantize_weights, selected
from flowquant.quantization.codebook import Codebook, expand_all
from flowquant.quantization.packed_file import PackedTensor
from flowquant.quantization.packed_network import load_packed
from flowquant.runtime.names import SamplingPrecision
from flowquant.sampling.sampler import Sampler
from tiny import TINY_MODEL, TINY_NETWORKS, write_tiny_model

NOISE = torch.randn(9, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(9) % 3


@pytest.fixture(autouse=True)
def capable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any CPU, which is slow where it has no instructions for it, and right."""
    monkeypatch.setattr("flowquant.runtime.device.multiplies_bfloat16", lambda: True)


def images(network: nn.Module, precision: SamplingPrecision) -> Tensor:
    settings = SolverConfig(steps=3, precision=precision)
    return Sampler(network, TINY_MODEL.flow, settings, torch.device("cpu"))(NOISE, LABELS)


def differ(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("family", TINY_NETWORKS)
def test_images_are_near_those_in_float32(family: str) -> None:
    model = replace(TINY_MODEL, network=TINY_NETWORKS[family])
    torch.manual_seed(0)
    weights = {name: tensor.detach() for name, tensor in build_network(model).state_dict().items()}
    for tensor in weights.values():  # also where a fresh network has zeros
        if tensor.is_floating_point():
            tensor.add_(0.05 * torch.randn_like(tensor))
    widths = dict.fromkeys(selected(weights, model, RECOMMENDED), 2)
    codebooks = dict(quantize_weights(weights, RECOMMENDED, widths))
    packed = {
        name: PackedTensor.of(content) if isinstance(content, Codebook) else content
        for name, content in codebooks.items()
    }
    exact = images(load_network(expand_all(codebooks), model), "float32")
    expanded = images(load_network(expand_all(codebooks), model), "bfloat16")
    assert exact.dtype == expanded.dtype == torch.float32
    assert 1e-5 < differ(expanded, exact) < 0.02
    # A packed weight is rounded once, as an expanded one is.
    assert images(load_packed(packed, model), "bfloat16").equal(expanded)


def test_a_network_in_hand_is_left_as_it_was(tmp_path: Path) -> None:
    network = flowquant.load(write_tiny_model(tmp_path))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = [
        flowquant.sample(network, 3, steps=2, precision=precision, pixels=False)
        for precision in ("bfloat16", "float32")
    ]
    assert 1e-5 < differ(*found) < 0.02
    for name, tensor in network.state_dict().items():
        assert tensor.dtype == before[name].dtype
        assert tensor.equal(before[name])


def test_a_module_of_somebody_elses_computes_in_it() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(8, 8)
    found = [
        flowquant.sample(
            layer,
            3,
            shape=(1, 8, 8),
            call=lambda module, x, *_: module(x),
            steps=2,
            precision=precision,
            pixels=False,
        )
        for precision in ("bfloat16", "float32")
    ]
    assert 1e-5 < differ(*found) < 0.02
