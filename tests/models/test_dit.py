"""DiT and SiT: names and shapes as published, blocks against timm's, all against the equations."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.network import DitConfig
from flowquant.models.dit import Attention, Dit, Mlp
from project import oracle

CLASSES = ConditionConfig(kind="class", count=10)
SMALL: dict[str, Any] = {"patch": 2, "width": 24, "heads": 3, "layers": 2, "feedforward": 40}


def section(**changes: Any) -> DitConfig:
    return DitConfig(family="dit", **SMALL | changes)


def randomised(network: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return network.eval()


def published(width: int, layers: int, hidden: int, out: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of SiT's checkpoints for latents [4, 32, 32] of 1,000 classes, patch 2."""
    block = {
        "attn.qkv.weight": (3 * width, width),
        "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "mlp.fc1.weight": (hidden, width),
        "mlp.fc1.bias": (hidden,),
        "mlp.fc2.weight": (width, hidden),
        "mlp.fc2.bias": (width,),
        "adaLN_modulation.1.weight": (6 * width, width),
        "adaLN_modulation.1.bias": (6 * width,),
    }
    return {
        "pos_embed": (1, 256, width),
        "x_embedder.proj.weight": (width, 4, 2, 2),
        "x_embedder.proj.bias": (width,),
        "t_embedder.mlp.0.weight": (width, 256),
        "t_embedder.mlp.0.bias": (width,),
        "t_embedder.mlp.2.weight": (width, width),
        "t_embedder.mlp.2.bias": (width,),
        "y_embedder.embedding_table.weight": (1001, width),
        "final_layer.linear.weight": (out, width),
        "final_layer.linear.bias": (out,),
        "final_layer.adaLN_modulation.1.weight": (2 * width, width),
        "final_layer.adaLN_modulation.1.bias": (2 * width,),
    } | {f"blocks.{i}.{name}": shape for i in range(layers) for name, shape in block.items()}


def latents() -> ImageConfig:
    """What published ones were made for; images have 1 or 3 channels, which a section checks."""
    image = ImageConfig(channels=3, size=32)
    object.__setattr__(image, "channels", 4)
    return image


@pytest.mark.parametrize(
    ("width", "layers", "heads", "millions"),
    [(384, 12, 6, 33), (768, 12, 12, 130), (1152, 28, 16, 675)],
    ids=["S", "B", "XL"],
)
def test_names_and_shapes_are_the_published_ones(
    width: int, layers: int, heads: int, millions: int
) -> None:
    config = section(width=width, layers=layers, heads=heads, feedforward=4 * width)
    with torch.device("meta"):
        network = Dit(config, latents(), ConditionConfig(kind="class", count=1000))
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert shapes == published(width, layers, 4 * width, 2 * 2 * 8)
    count = sum(map(math.prod, shapes.values()))
    assert count / 1e6 == pytest.approx(millions, abs=0.6)
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["pos_embed"]


def test_parts_are_timms() -> None:
    oracle("timm")
    from timm.models.vision_transformer import Attention as TheirAttention
    from timm.models.vision_transformer import Mlp as TheirMlp

    config, x = section(), torch.randn(2, 7, 24)
    gelu = lambda: nn.GELU(approximate="tanh")  # noqa: E731
    for own, their in (
        (Attention(config), TheirAttention(24, num_heads=3, qkv_bias=True)),
        (Mlp(config), TheirMlp(in_features=24, hidden_features=40, act_layer=gelu, drop=0)),
    ):
        own.load_state_dict(their.state_dict(), strict=True)
        torch.testing.assert_close(own(x), their(x), rtol=1e-5, atol=1e-5)


def by_the_equations(
    w: dict[str, Tensor], x: Tensor, time: Tensor, rows: list[int], heads: int, layers: int
) -> Tensor:
    """All output channels, an image, a head and a patch at a time, from the papers' text."""
    width = w["pos_embed"].shape[2]

    def linear(name: str, value: Tensor) -> Tensor:
        return w[f"{name}.weight"] @ value + w[f"{name}.bias"]

    def normed(value: Tensor) -> Tensor:
        return (value - value.mean()) / (value.var(correction=0) + 1e-6).sqrt()

    def gelu(value: Tensor) -> Tensor:
        inner = math.sqrt(2 / math.pi) * (value + 0.044715 * value**3)
        return value / 2 * (1 + inner.tanh())

    images = []
    for image, t, row in zip(x, time.tolist(), rows, strict=True):
        angles = [t * 10000 ** (-i / 128) for i in range(128)]
        features = torch.tensor([*map(math.cos, angles), *map(math.sin, angles)])
        hidden = F.silu(linear("t_embedder.mlp.0", features))
        context = linear("t_embedder.mlp.2", hidden)
        context = F.silu(context + w["y_embedder.embedding_table.weight"][row])
        side = image.shape[1] // 2
        places = [(i, j) for i in range(side) for j in range(side)]
        kernel, bias = w["x_embedder.proj.weight"], w["x_embedder.proj.bias"]
        tokens = [
            (kernel * image[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]).sum((1, 2, 3))
            + bias
            + w["pos_embed"][0, i * side + j]
            for i, j in places
        ]
        for layer in range(layers):
            name = f"blocks.{layer}"
            parts = linear(f"{name}.adaLN_modulation.1", context).split(width)
            given = [normed(token) * (1 + parts[1]) + parts[0] for token in tokens]
            qkv = torch.stack([linear(f"{name}.attn.qkv", token) for token in given])
            query, key, value = (part.split(width // heads, 1) for part in qkv.split(width, 1))
            mixed = torch.cat(
                [
                    (query[h] @ key[h].T / math.sqrt(width // heads)).softmax(1) @ value[h]
                    for h in range(heads)
                ],
                dim=1,
            )
            tokens = [
                token + parts[2] * linear(f"{name}.attn.proj", row)
                for token, row in zip(tokens, mixed, strict=True)
            ]
            for index, token in enumerate(tokens):
                shifted = normed(token) * (1 + parts[4]) + parts[3]
                wide = gelu(linear(f"{name}.mlp.fc1", shifted))
                tokens[index] = token + parts[5] * linear(f"{name}.mlp.fc2", wide)
        shift, scale = linear("final_layer.adaLN_modulation.1", context).split(width)
        channels = len(w["final_layer.linear.bias"]) // 4
        out = torch.empty(channels, *image.shape[1:])
        for token, (i, j) in zip(tokens, places, strict=True):
            values = linear("final_layer.linear", normed(token) * (1 + scale) + shift)
            patch = values.view(2, 2, channels).permute(2, 0, 1)
            out[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = patch
        images.append(out)
    return torch.stack(images)


@pytest.mark.parametrize("learned_sigma", [True, False])
@torch.no_grad()
def test_velocity_is_that_of_the_equations(learned_sigma: bool) -> None:
    config = section(learned_sigma=learned_sigma)
    network = randomised(Dit(config, ImageConfig(channels=3, size=8), CLASSES))
    x, time, classes = torch.randn(3, 3, 8, 8), torch.tensor([0.0, 0.3, 1.0]), [0, 9, 4]
    kept = torch.tensor([1.0, 1.0, 0.0])
    every = by_the_equations(network.state_dict(), x, time, [0, 9, 10], 3, 2)
    assert every.shape[1] == 3 * (1 + learned_sigma)
    found = network(x, time, torch.tensor(classes), kept)
    torch.testing.assert_close(found, every[:, :3], rtol=1e-4, atol=1e-5)


def test_places_are_the_published_sines() -> None:
    """DiT's `get_2d_sincos_pos_embed`: columns first, sines before cosines."""
    network = Dit(section(), ImageConfig(channels=3, size=8), CLASSES)
    rates = [10000 ** (-i / 6) for i in range(6)]
    for place, found in enumerate(network.pos_embed[0]):
        row, column = divmod(place, 4)
        waves = [
            wave(step * rate)
            for step in (column, row)
            for wave in (math.sin, math.cos)
            for rate in rates
        ]
        torch.testing.assert_close(found, torch.tensor(waves))


@torch.no_grad()
def test_it_begins_with_no_velocity() -> None:
    network = Dit(section(), ImageConfig(channels=3, size=8), CLASSES)
    x = torch.randn(2, 3, 8, 8)
    assert not network(x, torch.rand(2), torch.tensor([1, 2])).any()
    tokens, context = torch.randn(2, 16, 24), torch.randn(2, 24)
    assert torch.equal(network.blocks[0](tokens, context), tokens)
    assert network.y_embedder.embedding_table.weight.std() == pytest.approx(0.02, rel=0.2)


@torch.no_grad()
def test_without_a_null_class_nothing_is_zeros() -> None:
    config = section(null_class=False)
    network = randomised(Dit(config, ImageConfig(channels=3, size=8), CLASSES))
    table: Any = network.get_parameter("y_embedder.embedding_table.weight")
    assert len(table) == 10
    x, time = torch.randn(2, 3, 8, 8), torch.rand(2)
    found = network(x, time, torch.tensor([1, 2]), torch.zeros(2))
    table.zero_()
    torch.testing.assert_close(found, network(x, time, torch.tensor([3, 4])))


def test_a_network_without_a_condition_sees_none() -> None:
    config = section(condition="none")
    network = randomised(Dit(config, ImageConfig(channels=3, size=8), CLASSES))
    assert not any(name.startswith("y_embedder") for name in network.state_dict())
    x, time = torch.randn(2, 3, 8, 8), torch.rand(2)
    first = network(x, time, torch.tensor([0, 1]))
    assert torch.equal(first, network(x, time, torch.tensor([5, 6]), torch.zeros(2)))
