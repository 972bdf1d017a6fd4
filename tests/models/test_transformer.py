"""The network against PyTorch's own transformer; test_presets.py has its parameters."""

from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import nn

from flowquant.config.model import ConditionConfig, ImageConfig, ModelConfig
from flowquant.models.family import matrices
from flowquant.models.model import build_network, empty_network
from flowquant.models.transformer import FourierFeatures
from tiny import TINY_NETWORK


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_equals_pytorchs(
    tiny_model: ModelConfig, activation: Literal["relu", "gelu"]
) -> None:
    """The same weights in `nn.TransformerEncoder` give the same output."""
    config = replace(TINY_NETWORK, activation=activation)
    model = replace(tiny_model, network=config)
    torch.manual_seed(0)
    network: Any = build_network(model)
    encoder = network.transformer.eval()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    reference = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            config.feedforward,
            activation=activation,
            batch_first=True,
        ),
        config.layers,
        enable_nested_tensor=False,
    ).eval()
    reference.load_state_dict(encoder.state_dict(), strict=True)
    x = torch.randn(3, 4, config.width)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), reference(x), atol=1e-5, rtol=1e-4)


def test_patches_are_ordered_channel_row_column(tiny_model: ModelConfig) -> None:
    """With identity-like projections, the network's patching and its inverse lose nothing."""
    image = ImageConfig(channels=3, size=8)
    config = replace(TINY_NETWORK, width=48, heads=2, patch=4)
    network: Any = build_network(replace(tiny_model, image=image, network=config)).eval()
    tokens_seen = []
    network.patch_proj.register_forward_pre_hook(lambda _, args: tokens_seen.append(args[0]))
    x = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    with torch.no_grad():
        network(x, torch.zeros(2), torch.zeros(2, dtype=torch.long))
    by_hand = x[1, :, 0:4, 4:8].flatten()  # second image, first row of patches, second patch
    assert torch.equal(tokens_seen[0][1, 1], by_hand)
    below = x[1, :, 4:8, 0:4].flatten()
    assert torch.equal(tokens_seen[0][1, 2], below)
    network.transformer = nn.Identity()
    for name, parameter in network.named_parameters():
        nn.init.eye_(parameter) if name in ("patch_proj.weight", "out_proj.weight") else (
            nn.init.zeros_(parameter)
        )
    with torch.no_grad():
        assert torch.equal(network(x, torch.zeros(2), torch.zeros(2, dtype=torch.long)), x)


def test_fourier_features() -> None:
    features = FourierFeatures(2)
    features.W.data = torch.tensor([0.25, 0.5])
    found = features(torch.tensor([[1.0]]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0, 0.0, -1.0]]), atol=1e-6, rtol=0)


def test_withheld_condition_is_as_zero_attributes(tiny_model: ModelConfig) -> None:
    model = replace(
        tiny_model,
        condition=ConditionConfig(kind="attributes", count=5),
        network=replace(TINY_NETWORK, condition="linear", time="fourier"),
    )
    torch.manual_seed(0)
    network = build_network(model).eval()
    x, time = torch.randn(2, 1, 8, 8), torch.tensor([0.2, 0.9])
    attributes = torch.ones(2, 5, dtype=torch.uint8)
    with torch.no_grad():
        withheld = network(x, time, attributes, torch.tensor([0.0, 1.0]))
        zeros = network(x, time, torch.zeros(2, 5, dtype=torch.uint8))
        given = network(x, time, attributes)
    torch.testing.assert_close(withheld[0], zeros[0])
    torch.testing.assert_close(withheld[1], given[1])
    assert not torch.allclose(zeros, given)


def test_classes_through_a_linear_map_are_one_hot(tiny_model: ModelConfig) -> None:
    model = replace(tiny_model, network=replace(TINY_NETWORK, condition="linear"))
    network = build_network(model).eval()
    x, time = torch.randn(2, 1, 8, 8), torch.zeros(2)
    with torch.no_grad():
        by_class = network(x, time, torch.tensor([2, 0]))
        by_hand = network(x, time, torch.tensor([[0, 0, 1], [1, 0, 0]]))
    assert torch.equal(by_class, by_hand)


def test_dropout_is_off_outside_training(tiny_model: ModelConfig) -> None:
    torch.manual_seed(0)
    network = build_network(tiny_model)
    args = torch.randn(2, 1, 8, 8), torch.zeros(2), torch.zeros(2, dtype=torch.long)
    assert not torch.equal(network(*args), network(*args))
    network.eval()
    assert torch.equal(network(*args), network(*args))


def test_matrices_are_what_tokens_are_multiplied_by(tiny_model: ModelConfig) -> None:
    names = matrices(empty_network(tiny_model))
    layer = {f"transformer.layers.{i}." for i in range(2)}
    per_layer = (
        "self_attn.in_proj_weight",
        "self_attn.out_proj.weight",
        "linear1.weight",
        "linear2.weight",
    )
    assert names == {
        "patch_proj.weight",
        "out_proj.weight",
    } | {prefix + name for prefix in layer for name in per_layer}


@pytest.mark.parametrize("kind", ["embedding", "linear"])
def test_withholding_keeps_the_type_a_network_computes_in(
    tiny_model: ModelConfig, kind: Literal["embedding", "linear"]
) -> None:
    # A float32 mask must not make all that follows float32: fused layers take one type.
    model = replace(tiny_model, network=replace(TINY_NETWORK, condition=kind))
    network: Any = build_network(model).eval()
    network.cast(torch.bfloat16)
    seen = []
    network.transformer.register_forward_pre_hook(lambda _, given: seen.append(given[0].dtype))
    shape = (2, model.image.channels, model.image.size, model.image.size)
    network(torch.randn(shape), torch.rand(2), torch.tensor([1, 2]), torch.tensor([1.0, 0.0]))
    assert seen == [torch.bfloat16]
