"""Sampling in FP8: calibrated, watched, and left where it does not work."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flowquant.config.sampling import SolverConfig
from flowquant.models import fp8 as in_fp8
from flowquant.models.fp8 import InFp8
from flowquant.models.model import build_network
from flowquant.models.path import velocity
from flowquant.models.solver import Velocity, solve
from flowquant.runtime.device import compute_dtype, has_fp8
from flowquant.sampling import fp8
from flowquant.sampling.fp8 import late_in_bfloat16, late_steps, use_fp8, warn_of_saturation
from flowquant.sampling.generate import generate
from flowquant.sampling.sampler import Sampler
from tiny import TINY_MODEL, TINY_NETWORK, TINY_NETWORKS

CPU = torch.device("cpu")
interpreted = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for CPUs")
NOISE, LABELS = (
    torch.randn(9, 1, 8, 8, generator=torch.Generator().manual_seed(0)),
    torch.arange(9) % 3,
)


def network(**settings: Any) -> nn.Module:
    torch.manual_seed(0)
    model = replace(TINY_MODEL, network=replace(TINY_NETWORK, **settings))
    return build_network(model).eval().requires_grad_(False)


def under(net: nn.Module) -> Any:
    def of(condition: Tensor) -> Velocity:
        return lambda x, t: velocity(net, TINY_MODEL.flow, x, t, condition)

    return of


@interpreted
def test_images_are_near_those_without(
    e4m3: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fp8, "STEPS", 2)
    net = network()
    plain = solve(under(net)(LABELS), NOISE, "euler", 2)[0]
    computing = use_fp8(net, under(net), NOISE, LABELS)
    assert computing is not None
    saturated = computing.saturated
    found = solve(under(net)(LABELS), NOISE, "euler", 2)[0]
    difference = (found - plain).norm() / plain.norm()
    assert 1e-4 < difference < 0.03
    warn_of_saturation(saturated)
    assert capsys.readouterr().err == ""
    # Beyond what the calibration saw.
    under(net)(LABELS)(NOISE, torch.zeros(1))
    with torch.no_grad():
        net.patch_proj.weight *= 1e4  # type: ignore[operator, union-attr]
    under(net)(LABELS)(NOISE, torch.zeros(1))
    warn_of_saturation(saturated)
    said = capsys.readouterr().err
    assert said.startswith("FP8: ")
    assert "saturated" in said
    assert saturated.item() == 0


def test_late_times_are_in_bfloat16() -> None:
    """One step of twenty, by its number as by its time."""
    assert [late_steps(steps) for steps in (1, 19, 20, 39, 100, 500)] == [0, 0, 1, 1, 5, 25]
    net: Any = network()
    encoder, times = net.transformer, []
    encoder.forward = in_eight = object()
    computing = InFp8(2, 0, torch.zeros(1), [encoder])

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        if vars(encoder).get("forward") is not in_eight:
            times.append(round(20 * t.item()))
        return x

    solve(late_in_bfloat16(velocity, computing), NOISE, "euler", 20)
    assert times == [19]
    assert vars(encoder)["forward"] is in_eight


def test_each_batch_is_watched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = Sampler.__call__

    def saturating(self: Sampler, noise: Tensor, condition: Tensor) -> Tensor:
        with torch.inference_mode():
            self._fp8 = InFp8(1, 0, torch.tensor([len(noise)], dtype=torch.int32), [])
        return whole(self, noise, condition)

    monkeypatch.setattr(Sampler, "__call__", saturating)
    generate(network(), TINY_MODEL, LABELS, SolverConfig(steps=1), 0, 6, CPU)
    assert re.findall(r"FP8: (\d+) activations", capsys.readouterr().err) == ["6", "3"]


@interpreted
def test_where_a_kernel_fails_bfloat16_takes_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("PTX of no such GPU\nand more")

    monkeypatch.setattr(fp8, "STEPS", 1)
    net = network()
    plain = under(net)(LABELS)(NOISE, torch.zeros(1))
    monkeypatch.setattr(in_fp8, "cast", fail)
    assert use_fp8(net, under(net), NOISE, LABELS) is None
    said = "FP8 does not work here, computing in bfloat16: PTX of no such GPU\n"
    assert capsys.readouterr().err == said
    found = under(net)(LABELS)(NOISE, torch.zeros(1))
    torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-5)


@interpreted
def test_memory_that_does_not_suffice_is_another_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(fp8, "STEPS", 1)
    monkeypatch.setattr(in_fp8, "cast", fail)
    net = network()
    with pytest.raises(torch.OutOfMemoryError):
        use_fp8(net, under(net), NOISE, LABELS)


@interpreted
def test_a_word_where_nothing_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fp8, "STEPS", 1)
    odd = network(feedforward=40)
    use_fp8(odd, under(odd), NOISE, LABELS)
    assert "0 of 2 encoder layers" in capsys.readouterr().err
    unet = build_network(replace(TINY_MODEL, network=TINY_NETWORKS["dit"])).eval()
    use_fp8(unet, under(unet), NOISE, LABELS)
    assert "0 of 0 encoder layers" in capsys.readouterr().err


def test_cpus_compute_in_bfloat16_or_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not has_fp8(CPU)
    images = {}
    for capable in (False, True):
        monkeypatch.setattr("flowquant.runtime.device.multiplies_bfloat16", lambda can=capable: can)
        for precision in ("fp8", "bfloat16", "float32", "auto"):
            settings = SolverConfig(steps=2, precision=precision)
            images[precision, capable] = Sampler(network(), TINY_MODEL.flow, settings, CPU)(
                NOISE, LABELS
            )
    exact = images["float32", False]
    for (precision, capable), found in images.items():
        half = capable and precision in ("fp8", "bfloat16")
        assert found.dtype == torch.float32
        assert found.equal(images["bfloat16", True] if half else exact)
    assert 0 < (images["bfloat16", True] - exact).abs().max() < 0.02 * exact.abs().max()


def test_a_gpu_without_fp8_falls_back_with_a_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "An A100")
    for capability in ((8, 0), (8, 9), (9, 0)):
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda device, found=capability: found
        )
        assert compute_dtype(device, "fp8") == torch.bfloat16
        assert has_fp8(device) == (capability > (8, 0))
    assert capsys.readouterr().err == "An A100 has no FP8: computing in bfloat16\n"
    monkeypatch.setattr(
        "flowquant.runtime.device.find_spec", lambda name: None if "descriptor" in name else name
    )
    assert not has_fp8(device)
    assert capsys.readouterr().err.startswith("FP8 needs Triton 3.4")
