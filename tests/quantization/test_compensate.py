"""Networks of every family quantized with compensation: their velocity errs less."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam

from flowquant.config.compensation import CompensationConfig
from flowquant.config.method import MethodConfig
from flowquant.config.model import ModelConfig
from flowquant.models.family import matrices
from flowquant.models.model import build_network, load_network, read_model
from flowquant.models.path import interpolate, velocity
from flowquant.models.transformer import Encoder, EncoderLayer
from flowquant.quantization.codebook import Codebook, Quantized, expand_all, stored_bits
from flowquant.quantization.compensate import compensate_weights
from flowquant.quantization.hessians import Hessians, observed
from flowquant.quantization.module import quantize_contents
from flowquant.runtime.errors import UserError
from tiny import TINY_MODEL, TINY_NETWORK, TINY_NETWORKS, write_tiny_model

METHOD = MethodConfig(levels="uniform_mse", granularity="row", scope="matrices")
EACH = CompensationConfig(sequential=False)


def points(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points between noise and a bright square whose place tells the class."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = torch.full((count, 1, 8, 8), -1.0)
    for image, label in zip(images, labels, strict=True):
        image[0, 2 * label : 2 * label + 3] = 1
    t = torch.rand(count, generator=draws)
    noise = 0.5 * torch.randn(count, 1, 8, 8, generator=draws)
    return interpolate(noise, images, t), t, labels


def trained() -> tuple[dict[str, Tensor], ModelConfig]:
    """A tiny transformer that has learnt the squares a little."""
    torch.manual_seed(0)
    config = replace(TINY_MODEL, network=replace(TINY_NETWORK, dropout=0.0))
    network = build_network(config)
    optimizer = Adam(network.parameters(), lr=3e-3)
    for step in range(150):
        x, t, labels = points(64, step + 100)
        images = torch.full((64, 1, 8, 8), -1.0)
        for image, label in zip(images, labels, strict=True):
            image[0, 2 * label : 2 * label + 3] = 1
        # The straight path's velocity, by what is left of it.
        target = (images - x) / (1 - t).clamp(min=0.05)[:, None, None, None]
        loss = (velocity(network, config.flow, x, t, labels) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: tensor.detach() for name, tensor in network.state_dict().items()}, config


def prepared(weights: dict[str, Tensor], config: ModelConfig) -> tuple[nn.Module, Hessians]:
    network = load_network(weights, config)
    return network, observed("model", network, config.flow, points(256, 0), matrices(network))


@torch.no_grad()
def velocity_error(contents: Quantized, network: nn.Module, config: ModelConfig) -> float:
    """On points that no Hessian has seen."""
    held = points(256, 1)
    target = velocity(network, config.flow, *held)
    found = velocity(load_network(expand_all(contents), config), config.flow, *held)
    return ((found - target).square().sum() / target.square().sum()).item()


def test_a_trained_network_errs_far_less() -> None:
    weights, config = trained()
    network, hessians = prepared(weights, config)
    names = matrices(network)
    for bits in (2, 4):
        widths = dict.fromkeys(sorted(names), bits)
        plain = quantize_contents("model", weights, names, METHOD, bits)
        each = compensate_weights("model", weights, config, METHOD, widths, EACH, hessians)
        sequence = compensate_weights(
            "model", weights, config, METHOD, widths, CompensationConfig(), hessians
        )
        found = [velocity_error(made, network, config) for made in (plain, each, sequence)]
        assert found[1] < 0.5 * found[0]
        assert found[2] < 0.7 * found[1]


@pytest.mark.parametrize("settings", [EACH, CompensationConfig()], ids=["each", "sequence"])
def test_layers_that_have_a_codebook_in_common_keep_it(settings: CompensationConfig) -> None:
    weights, config = trained()
    network, hessians = prepared(weights, config)
    names = matrices(network)
    method = MethodConfig(levels="vector:4", granularity="network", scope="matrices")
    plain = quantize_contents("model", weights, names, method, 1)
    widths = dict.fromkeys(sorted(names), 1)
    made = compensate_weights("model", weights, config, method, widths, settings, hessians)
    books = [made[name] for name in sorted(names)]
    first = plain[min(names)]
    assert isinstance(first, Codebook)
    for book in books:
        assert isinstance(book, Codebook)
        assert book.common
        assert book.levels.equal(first.levels)
    assert stored_bits(made) == stored_bits(plain)
    assert velocity_error(made, network, config) < 0.6 * velocity_error(plain, network, config)


@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize("family", TINY_NETWORKS)
def test_every_family_errs_less(family: str, sequential: bool, tmp_path: Path) -> None:
    config = replace(TINY_MODEL, network=TINY_NETWORKS[family])
    weights, _ = read_model(write_tiny_model(tmp_path, config))
    network, hessians = prepared(weights, config)
    names = matrices(network)
    plain = quantize_contents("model", weights, names, METHOD, 2)
    settings = CompensationConfig(sequential=sequential)
    widths = dict.fromkeys(sorted(names), 2)
    made = compensate_weights("model", weights, config, METHOD, widths, settings, hessians)
    assert list(made) == list(plain) == list(weights)
    assert {n for n, c in made.items() if isinstance(c, Codebook)} == {
        n for n, c in plain.items() if isinstance(c, Codebook)
    }
    assert velocity_error(made, network, config) < 0.7 * velocity_error(plain, network, config)


def test_a_layer_has_the_width_it_is_given(tmp_path: Path) -> None:
    weights, config = read_model(write_tiny_model(tmp_path))
    _, hessians = prepared(weights, config)
    widths = {"out_proj.weight": 1, "transformer.layers.0.linear1.weight": 3}
    for settings in (EACH, CompensationConfig()):
        made = compensate_weights("model", weights, config, METHOD, widths, settings, hessians)
        found = {n: c.levels.shape[1] for n, c in made.items() if isinstance(c, Codebook)}
        assert found == {"out_proj.weight": 2, "transformer.layers.0.linear1.weight": 8}
        changed = {n for n, w in weights.items() if not expand_all(made)[n].equal(w)}
        assert changed == {*widths, "out_proj.bias", "transformer.layers.0.linear1.bias"}


def test_the_mean_of_an_output_stays(tmp_path: Path) -> None:
    """A bias takes over the mean of its layer's error, so of the velocity's where it is last."""
    weights, config = read_model(write_tiny_model(tmp_path))
    network, hessians = prepared(weights, config)
    for settings in (EACH, CompensationConfig()):
        made = compensate_weights(
            "model", weights, config, METHOD, {"out_proj.weight": 1}, settings, hessians
        )
        with torch.no_grad():
            full = velocity(network, config.flow, *hessians.points)
            other = load_network(expand_all(made), config)
            off = velocity(other, config.flow, *hessians.points) - full
        assert float(off.mean().abs()) < 1e-5
        assert float(off.abs().mean()) > 1e-3


def test_full_precision_layers_are_no_errors_to_make_up_for(tmp_path: Path) -> None:
    """At 16 bits nothing errs: a sequence comes to what each layer by itself does."""
    weights, config = read_model(write_tiny_model(tmp_path))
    _, hessians = prepared(weights, config)
    widths = {"patch_proj.weight": 16, "out_proj.weight": 2}
    made = [
        expand_all(
            compensate_weights("model", weights, config, METHOD, widths, settings, hessians)
        )["out_proj.weight"]
        for settings in (EACH, CompensationConfig())
    ]
    torch.testing.assert_close(made[0], made[1], rtol=1e-2, atol=1e-3)


def test_layers_that_are_never_reached(tmp_path: Path) -> None:
    weights, config = read_model(write_tiny_model(tmp_path))
    _, hessians = prepared(weights, config)
    widths = {"class_emb.weight": 2}
    for settings in (EACH, CompensationConfig()):
        with pytest.raises(UserError, match=r"nothing is multiplied by.* class_emb\.weight.*keep"):
            compensate_weights("model", weights, config, METHOD, widths, settings, hessians)


def test_a_network_whose_batch_comes_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, config = read_model(write_tiny_model(tmp_path))
    _, hessians = prepared(weights, config)

    def forward(encoder: Encoder, x: Tensor) -> Tensor:
        # Attention needs the batch first; all else does not care.
        for layer in encoder.layers:
            assert isinstance(layer, EncoderLayer)
            hidden = layer.linear1(x.transpose(0, 1).contiguous())
            x = layer(x) + 0 * layer.linear2(hidden).transpose(0, 1)
        return x

    monkeypatch.setattr(Encoder, "forward", forward)
    widths = {"transformer.layers.0.linear1.weight": 2}
    with pytest.raises(UserError, match=r"mixes the points .*linear1\.weight.*sequential: false"):
        compensate_weights("model", weights, config, METHOD, widths, CompensationConfig(), hessians)
    compensate_weights("model", weights, config, METHOD, widths, EACH, hessians)


def test_levels_beyond_their_type(tmp_path: Path) -> None:
    weights, config = read_model(write_tiny_model(tmp_path))
    _, hessians = prepared(weights, config)
    weights["out_proj.weight"] = weights["out_proj.weight"] * 1e9
    method = replace(METHOD, levels_dtype="float16")
    with pytest.raises(UserError, match=r"do not fit torch\.float16.*levels_dtype: float32"):
        compensate_weights("model", weights, config, method, {"out_proj.weight": 2}, EACH, hessians)
