"""Sampling on a GPU: captured and launched, guided, in FP8, and in too little memory."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import flowquant
from flowquant.config.model import ModelConfig
from flowquant.config.sampling import SolverConfig
from flowquant.models.model import build_network, load_network
from flowquant.models.path import guided_velocity
from flowquant.models.solver import solve
from flowquant.models.transformer import EncoderLayer
from flowquant.runtime.names import SamplingPrecision
from flowquant.sampling.generate import generate
from flowquant.sampling.sampler import Sampler
from near import distance
from tiny import TINY_MODEL, TINY_NETWORK, TINY_NETWORKS

pytest.importorskip("triton")

from flowquant.models.fused import encode

FAMILIES = [name for name in TINY_NETWORKS if name != "custom"]
SOLVERS = ["euler", "midpoint", "heun"]
LABELS = torch.arange(50) % 3


def weights(model: ModelConfig) -> dict[str, Tensor]:
    """Random, also where a fresh network has zeros."""
    torch.manual_seed(0)
    found = {name: tensor.detach() for name, tensor in build_network(model).state_dict().items()}
    for tensor in found.values():
        if tensor.is_floating_point():
            tensor.add_(0.05 * torch.randn_like(tensor))
    return found


def noise(images: int = 50, size: int = 8) -> Tensor:
    return torch.randn(images, 1, size, size, generator=torch.Generator().manual_seed(1)) * 0.5


def plain(model: ModelConfig, x: Tensor, labels: Tensor, steps: int, guidance: float) -> Tensor:
    """By the network as it is written, in float32 on the CPU."""
    network = load_network(weights(model), model)
    with torch.inference_mode():
        return solve(
            lambda x, t: guided_velocity(network, model.flow, x, t, labels, guidance),
            x,
            "euler",
            steps,
        )[0]


def sampler(
    model: ModelConfig, device: torch.device, launched: bool = False, **settings: Any
) -> Sampler:
    network = load_network(weights(model), model)
    found = Sampler(network, model.flow, SolverConfig(**{"steps": 5, **settings}), device)
    # One of steps of its own choice is never captured.
    found._launched |= launched
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_captured_step_is_the_launched_one(
    device: torch.device, family: str, solver: str
) -> None:
    model = replace(TINY_MODEL, network=TINY_NETWORKS[family])
    captured = sampler(model, device, solver=solver)
    found = captured(noise(), LABELS)
    assert captured._graphs
    launched = sampler(model, device, True, solver=solver)(noise(), LABELS)
    assert distance(found, launched) < 1e-3
    # Another batch by the same graph.
    other = captured(noise().flip(0), LABELS)
    assert distance(other, sampler(model, device, True, solver=solver)(noise().flip(0), LABELS)) < (
        1e-3
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_images_are_the_plain_networks(device: torch.device, family: str, guidance: float) -> None:
    model = replace(TINY_MODEL, network=TINY_NETWORKS[family])
    found = sampler(model, device, guidance=guidance)(noise(), LABELS)
    assert distance(found.cpu(), plain(model, noise(), LABELS, 5, guidance)) < 3e-2


@pytest.mark.parametrize("size", [4, 14, 22, 24])  # 4, 49, 121 and 144 tokens
@pytest.mark.parametrize("precision", ["bfloat16", "fp8", "tf32", "float32"])
def test_numbers_of_tokens(device: torch.device, size: int, precision: str) -> None:
    model = replace(TINY_MODEL, image=replace(TINY_MODEL.image, size=size))
    found = sampler(model, device, precision=precision)(noise(size=size), LABELS)
    wanted = plain(model, noise(size=size), LABELS, 5, 1.0)
    near = {"bfloat16": 3e-2, "fp8": 8e-2, "tf32": 1e-2, "float32": 1e-4}[precision]
    assert distance(found.cpu(), wanted) < near


@pytest.mark.parametrize("tokens", [1, 2, 17, 49, 127, 128, 129])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_fused_layer(device: torch.device, tokens: int, activation: Any) -> None:
    """Both of its sums are within products, each with its bias only where it is read."""
    layer = EncoderLayer(replace(TINY_NETWORK, width=96, heads=3, activation=activation)).eval()
    for weight in layer.parameters():
        weight.data.add_(torch.randn_like(weight), alpha=0.1)
    layer.to(device).bfloat16()
    exact = deepcopy(layer).double()
    x = torch.randn(6, tokens, 96, device=device).bfloat16()
    with torch.inference_mode():
        wanted, plain = exact(x.double()), layer(x)
        found = encode(layer, x)
    assert distance(found, wanted) < 1e-3 + 1.5 * distance(plain, wanted) < 2e-2


def needs_fp8() -> None:
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no FP8")


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("solver", [*SOLVERS, "dopri5"])
def test_fp8(
    device: torch.device, activation: Any, solver: str, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_fp8()
    if solver == "dopri5":
        pytest.importorskip("torchdiffeq")
    network = replace(TINY_NETWORK, width=64, feedforward=192, activation=activation)
    model = replace(TINY_MODEL, network=network)
    settings: dict[str, Any] = {"solver": solver, "tolerance": 1e-3}
    wanted = sampler(model, device, **settings)(noise(), LABELS)
    in_fp8 = sampler(model, device, precision="fp8", **settings)
    found = in_fp8(noise(), LABELS)
    assert 1e-4 < distance(found, wanted) < 8e-2
    assert in_fp8._fp8 is not None
    assert (not in_fp8._graphs) == (solver == "dopri5")
    in_fp8.warn()
    assert capsys.readouterr().err == ""
    # Far beyond what was calibrated: counted, said, and finite.
    assert in_fp8(noise() * 1e4, LABELS).isfinite().all()
    in_fp8.warn()
    assert "saturated" in capsys.readouterr().err


def test_late_steps_are_in_bfloat16(device: torch.device) -> None:
    """Captured as where each kernel is launched, and not without what went before."""
    needs_fp8()
    model = replace(TINY_MODEL, network=replace(TINY_NETWORK, layers=4))
    settings: dict[str, Any] = {"steps": 40, "precision": "fp8"}
    captured = sampler(model, device, **settings)
    found = captured(noise(), LABELS)
    assert captured._fp8 is not None
    assert (captured._fp8.layers, captured._fp8.kept) == (2, 2)
    first, *_, before, last = captured._graphs
    assert first is not before is last
    assert captured._graphs.count(last) == 2
    launched = sampler(model, device, True, **settings)(noise(), LABELS)
    plain = sampler(model, device, steps=40)(noise(), LABELS)
    assert distance(found, launched) < 1e-3 < distance(found, plain) < 8e-2


def test_fp8_of_sizes_that_it_refuses(
    device: torch.device, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_fp8()
    model = replace(TINY_MODEL, network=replace(TINY_NETWORK, feedforward=40))
    images = [
        sampler(model, device, precision=precision)(noise(), LABELS)
        for precision in ("fp8", "bfloat16")
    ]
    assert images[0].equal(images[1])
    assert "0 of 2 encoder layers" in capsys.readouterr().err


def test_a_network_that_was_in_fp8_goes_back(device: torch.device) -> None:
    network: nn.Module = load_network(weights(TINY_MODEL), TINY_MODEL)
    images = []
    order: tuple[SamplingPrecision, ...] = ("bfloat16", "fp8", "bfloat16", "fp8")
    for precision in order:
        settings = SolverConfig(steps=5, precision=precision)
        images.append(Sampler(network, TINY_MODEL.flow, settings, device)(noise(), LABELS))
    assert images[0].equal(images[2])
    assert images[1].equal(images[3])


def without_workspaces() -> int:
    """Bytes that are allocated once all that cuBLAS keeps for streams is given back.

    Else what other tests left behind would hide a workspace for every capture.
    """
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated()


@pytest.mark.parametrize("precision", ["bfloat16", "fp8", "float32"])
def test_another_size_of_batch_takes_no_more_memory(device: torch.device, precision: Any) -> None:
    without_workspaces()
    found = sampler(TINY_MODEL, device, precision=precision)
    taken = []
    for images in (32, 8, 16, 24, 40):
        found(noise(images), LABELS[:images])
        assert found._graphs
        taken.append(torch.cuda.memory_allocated())
    # The first two find out what there is to keep; a workspace has 8 MiB or more.
    assert max(taken[2:]) < taken[1] + 1e6


@pytest.mark.parametrize("precision", ["bfloat16", "fp8"])
def test_a_batch_that_memory_does_not_hold_is_halved(
    device: torch.device, precision: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 65_536
    labels = torch.arange(count) % 3
    solver = SolverConfig(steps=2, precision=precision)

    def images(batch: int) -> Tensor:
        network = load_network(weights(TINY_MODEL), TINY_MODEL)
        return generate(network, TINY_MODEL, labels, solver, 0, batch, device)[0]

    without_workspaces()
    wanted = images(256)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(
        (torch.cuda.memory_reserved() + 128e6) / total, device
    )
    try:
        capsys.readouterr()
        found = images(count)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    said = "".join(capsys.readouterr())
    batches = [int(b) for b in re.findall(r"out of memory: resuming with batches of (\d+)", said)]
    assert batches[0] == 32_768
    # An image takes some ten kilobytes, and what a failed batch took is there for the next.
    assert batches[-1] > 1024
    assert (found.int() - wanted.int()).abs().float().mean() < 0.5


DIGEST = """
import sys
from hashlib import sha256
import torch
from flowquant.runtime import workspaces
if sys.argv[1] == "without":
    workspaces.do_without()
from flowquant.config.model import ConditionConfig, FlowConfig, ImageConfig, ModelConfig
from flowquant.config.network import TransformerConfig
from flowquant.config.sampling import SolverConfig
from flowquant.models import fp8
from flowquant.models.model import build_network
from flowquant.sampling.sampler import Sampler
# FP8's weights are rounded under sums of float32, whose order is the workspaces': here, by nearest.
fp8.MOST_INPUTS = 0
model = ModelConfig(
    image=ImageConfig(channels=1, size=28),
    condition=ConditionConfig(kind="class", count=10),
    network=TransformerConfig(
        patch=4, width=384, heads=12, layers=2, feedforward=2048, activation="relu", dropout=0.1,
        time="linear", condition="embedding",
    ),
    flow=FlowConfig(clock="forward", sigma=0.5),
)
torch.manual_seed(0)
network, noise = build_network(model), torch.randn(1000, 1, 28, 28)
sampler = Sampler(
    network, model.flow, SolverConfig(steps=4, precision=sys.argv[2]), torch.device("cuda")
)
images = sampler(noise, torch.arange(1000) % 10)
print(sha256(images.float().cpu().numpy().tobytes()).hexdigest())
"""


@pytest.mark.parametrize("precision", ["bfloat16", "fp8"])
def test_images_without_workspaces(precision: str) -> None:
    """To the bit; PyTorch reads of workspaces once, so in processes of their own."""
    workflow = Path(flowquant.__file__).parents[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CUBLAS")}
    found = [
        subprocess.run(
            [sys.executable, "-c", DIGEST, how, precision],
            env=environment | {"PYTHONPATH": os.pathsep.join([str(workflow), *sys.path])},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()[-1]
        for how in ("with", "without")
    ]
    assert found[0] == found[1]
