"""Quantizing a network's weights: which, how exactly."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from flowquant.config.method import MethodConfig
from flowquant.models.model import build_network
from flowquant.quantization import apply as methods
from flowquant.quantization.apply import (
    quantize_embedders,
    quantize_tensor,
    quantize_weights,
    selected,
)
from flowquant.quantization.codebook import Codebook
from flowquant.quantization.error import wasserstein2, wasserstein2_pot
from tiny import TINY_MODEL


def method(**changes: Any) -> MethodConfig:
    defaults: dict[str, Any] = {
        "levels": "lloyd",
        "granularity": "tensor",
        "scope": "all",
        "keep": (),
        "least_values": 5,
    }
    return MethodConfig(**(defaults | changes))


def test_scope_linear_keeps_what_does_not_multiply() -> None:
    weights = build_network(TINY_MODEL).state_dict()
    chosen = selected(weights, TINY_MODEL, method(scope="matrices"))
    assert "transformer.layers.0.self_attn.in_proj_weight" in chosen
    assert "patch_proj.weight" in chosen
    for name in ("pos_emb", "class_emb.weight", "time_mlp.0.W", "patch_proj.bias"):
        assert name not in chosen
    kept = selected(
        weights, TINY_MODEL, method(scope="matrices", keep=("patch_proj.*", "out_proj.*"))
    )
    assert chosen - kept == {"patch_proj.weight", "out_proj.weight"}


@pytest.mark.parametrize("levels", ["equal_mass", "lloyd", "uniform"])
def test_w2_equals_that_of_pot(levels: str) -> None:
    values = torch.randn(40, 50, generator=torch.Generator().manual_seed(1))
    found = quantize_tensor(values, method(levels=levels, granularity="row"), 2).expand()
    assert wasserstein2(values, found) == pytest.approx(wasserstein2_pot(values, found), rel=1e-5)


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_constant_and_few_values_are_exact(bits: int) -> None:
    weights = {"constant": torch.full((8, 64), 0.3), "few": torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])}
    for levels in ("uniform", "equal_mass", "pwl", "log2", "uniform_mse", "lloyd"):
        found = quantize_weights(weights, method(levels=levels), dict.fromkeys(weights, bits))
        constant = found["constant"]
        assert isinstance(constant, Codebook)
        torch.testing.assert_close(constant.expand(), weights["constant"])
        if bits > 2 and levels in ("lloyd", "equal_mass"):
            few = found["few"]
            values = few.expand() if isinstance(few, Codebook) else few
            torch.testing.assert_close(values, weights["few"])


@pytest.mark.parametrize("granularity", ["tensor", "row"])
def test_tensors_quantized_together_come_out_as_alone(
    granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    weights = build_network(TINY_MODEL).state_dict()
    widths = dict.fromkeys(selected(weights, TINY_MODEL, method(scope="matrices")), 2)
    alone = quantize_weights(weights, method(granularity=granularity), widths)
    batches = methods._batches

    def together(*arguments: Any) -> list[list[str]]:
        found = batches(*arguments[:3], True)  # type: ignore[call-arg]
        assert len(found) < len(weights)
        return found

    monkeypatch.setattr(methods, "_batches", together)
    found = quantize_weights(weights, method(granularity=granularity), widths)
    assert list(found) == list(weights)
    for name, content in found.items():
        other = alone[name]
        if isinstance(content, Codebook):
            assert isinstance(other, Codebook)
            torch.testing.assert_close(content.expand(), other.expand(), rtol=1e-3, atol=1e-3)


def test_embedders_have_a_width_of_their_own() -> None:
    weights = build_network(TINY_MODEL).state_dict()
    kept = method(scope="matrices", keep=("time_mlp.*",), embedders=8)
    for none in (method(scope="matrices"), kept):
        assert quantize_embedders(weights, TINY_MODEL, none) == {}
    vectors = method(scope="matrices", levels="vector:2", granularity="scaled", embedders=4)
    found = quantize_embedders(weights, TINY_MODEL, vectors)
    assert found.keys() == {"time_mlp.1.weight", "time_mlp.3.weight"}
    assert not found.keys() & selected(weights, TINY_MODEL, vectors)
    for name, content in found.items():
        assert isinstance(content, Codebook)
        assert (content.bits, content.dimension) == (4, 1)
        assert content.scales is not None
        assert wasserstein2(weights[name], content.expand()) < 0.1 * weights[name].std()


def test_embedders_of_all_parameters_have_no_width_of_their_own() -> None:
    with pytest.raises(ValidationError, match="scope: all"):
        method(embedders=8)
