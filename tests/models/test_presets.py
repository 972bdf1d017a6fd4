"""The presets' networks against the published ones."""

from typing import Any

import pytest
import torch

from flowquant.config.model import ModelConfig
from flowquant.config.reading import check, merged, read_yaml
from flowquant.models.model import build_network, empty_network
from flowquant.models.path import velocity
from project import ROOT

USED = ("mnist", "fmnist", "cifar10", "celeba", "cifar10_unet", "cifar10_dit")


def configuration() -> dict[str, Any]:
    datasets, paper = (read_yaml(ROOT / f"config/{name}.yaml") for name in ("datasets", "config"))
    return merged(datasets, paper)


def model_of(name: str) -> ModelConfig:
    return check(configuration()).presets[name].model


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("mnist", 21_865_872),
        ("fmnist", 21_865_872),
        ("cifar10", 58_606_896),
        ("cifar10_jpeg", 58_606_896),
        ("celeba", 58_851_264),
        ("cifar10_unet", 35_751_427),
        ("cifar10_jpeg_unet", 35_751_427),
        ("cifar10_dit", 32_573_964),
        ("cifar10_jpeg_dit", 32_573_964),
    ],
)
def test_parameters(name: str, count: int) -> None:
    assert sum(p.numel() for p in empty_network(model_of(name)).parameters()) == count


def published(
    tokens: int, patch_values: int, condition: str, attributes: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the cifar10 and celeba checkpoints."""
    width, hidden = 768, 3072
    layer = {
        "self_attn.in_proj_weight": (3 * width, width),
        "self_attn.in_proj_bias": (3 * width,),
        "self_attn.out_proj.weight": (width, width),
        "self_attn.out_proj.bias": (width,),
        "linear1.weight": (hidden, width),
        "linear1.bias": (hidden,),
        "linear2.weight": (width, hidden),
        "linear2.bias": (width,),
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
    }
    return {
        "pos_emb": (1, tokens, width),
        "patch_proj.weight": (width, patch_values),
        "patch_proj.bias": (width,),
        "out_proj.weight": (patch_values, width),
        "out_proj.bias": (patch_values,),
        f"{condition}.weight": (width, attributes),
        f"{condition}.bias": (width,),
        "time_mlp.0.W": (width,),
        "time_mlp.1.weight": (width, 2 * width),
        "time_mlp.1.bias": (width,),
        "time_mlp.3.weight": (width, width),
        "time_mlp.3.bias": (width,),
    } | {f"transformer.layers.{i}.{name}": shape for i in range(8) for name, shape in layer.items()}


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cifar10", published(64, 48, "attr_emb", 10)),
        ("celeba", published(64, 192, "attr_emb", 40)),
    ],
)
def test_names_and_shapes(name: str, wanted: dict[str, tuple[int, ...]]) -> None:
    state = empty_network(model_of(name)).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == wanted


@pytest.mark.parametrize("name", USED)
def test_forward_pass_is_finite(name: str) -> None:
    model = model_of(name)
    torch.manual_seed(0)
    found = build_network(model).eval()
    x = torch.randn(2, model.image.channels, model.image.size, model.image.size)
    condition = torch.tensor([0, 9])
    if model.condition.kind == "attributes":
        condition = torch.randint(2, (2, model.condition.count), dtype=torch.uint8)
    with torch.no_grad():
        out = velocity(found, model.flow, x, torch.tensor([0.0, 0.7]), condition)
    assert out.shape == x.shape
    assert out.isfinite().all()
