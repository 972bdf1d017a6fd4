"""What layers are given, for every family and in what ways products are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowquant.config.model import ModelConfig
from flowquant.models.family import matrices
from flowquant.models.model import load_network, read_model
from flowquant.models.path import velocity
from flowquant.quantization.hessians import observed, read_hessians, write_hessians
from flowquant.quantization.inputs import Inputs, Product
from flowquant.runtime.errors import UserError
from tiny import TINY_MODEL, TINY_NETWORKS, write_tiny_model


def points(count: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(count, 1, 8, 8, generator=draws)
    return x, torch.rand(count, generator=draws), torch.arange(count) % 3


def of_family(family: str, folder: Path) -> tuple[nn.Module, ModelConfig]:
    config = replace(TINY_MODEL, network=TINY_NETWORKS[family])
    weights, config = read_model(write_tiny_model(folder, config))
    return load_network(weights, config), config


@pytest.mark.parametrize("family", TINY_NETWORKS)
def test_every_matrix_of_every_family_is_seen(family: str, tmp_path: Path) -> None:
    network, config = of_family(family, tmp_path)
    # The U-Net's widest kernels have 576 values and see four pixels a point.
    given = points(160)
    found = observed("model", network, config.flow, given, matrices(network))
    assert set(found.layers) == matrices(network)
    # Linear layers and convolutions, by torch's own hooks.
    seen: dict[str, list[Tensor]] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and f"{name}.weight" in found.layers:

            def keep(layer: nn.Module, args: tuple[Tensor], name: str = name) -> None:
                x = args[0]
                if isinstance(layer, nn.Conv2d):
                    given = layer.kernel_size, layer.dilation, layer.padding, layer.stride
                    x = F.unfold(x, *given).transpose(1, 2)  # type: ignore[arg-type]
                seen.setdefault(f"{name}.weight", []).append(x.reshape(-1, x.shape[-1]))

            module.register_forward_pre_hook(keep)
    with torch.no_grad():
        velocity(network, config.flow, *given)
    assert seen
    for name, parts in seen.items():
        x = torch.cat(parts).double()
        moments = found.layers[name]
        torch.testing.assert_close(moments.mean.double(), x.mean(0), rtol=1e-4, atol=1e-5)
        hessian = x.T @ x / len(x)
        torch.testing.assert_close(moments.hessian.double(), hessian, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(6, 8, 3, padding=1, stride=2),
        nn.Conv2d(6, 8, (3, 2), padding=(1, 2), stride=(2, 1), dilation=(1, 2)),
        nn.Conv2d(6, 8, 3, padding="same", padding_mode="circular"),
        nn.Conv2d(6, 8, 3, groups=2),
        nn.Conv3d(6, 8, 2, dilation=2),
    ],
)
@torch.no_grad()
def test_patches_are_what_kernels_are_multiplied_by(layer: nn.Conv2d) -> None:
    x = torch.randn(3, 6, *[7] * len(layer.kernel_size))
    rows: list[Tensor] = []

    def seen(product: Product) -> None:
        rows.extend(product.rows(product.input))

    with Inputs({"weight": layer.weight}, seen):
        out = layer(x)
    kernels = layer.weight.flatten(1).unflatten(0, (layer.groups, -1))
    patches = torch.cat(rows).view(3, layer.groups, -1, kernels.shape[2])
    made = torch.einsum("bgpn,gon->bgop", patches, kernels).flatten(1, 2)
    assert layer.bias is not None
    made = made + layer.bias[:, None]
    torch.testing.assert_close(made.view_as(out), out, rtol=1e-4, atol=1e-5)


PRODUCTS: list[tuple[str, Callable[[Tensor, Tensor], Tensor]]] = [
    ("linear", F.linear),
    ("with a bias", lambda x, w: F.linear(x, w, torch.ones(5))),
    ("not contiguous", lambda x, w: F.linear(x.transpose(0, 1), w, torch.ones(5))),
    ("matmul", lambda x, w: x @ w.T),
    ("einsum", lambda x, w: torch.einsum("bni,oi->bno", x, w)),
    ("expanded", lambda x, w: torch.bmm(x, w.T.expand(len(x), -1, -1))),
]


@pytest.mark.parametrize(("name", "way"), PRODUCTS, ids=[name for name, _ in PRODUCTS])
@torch.no_grad()
def test_a_product_is_seen_however_it_is_written(
    name: str, way: Callable[[Tensor, Tensor], Tensor]
) -> None:
    x, weight, other = torch.randn(2, 3, 7), torch.randn(5, 7), torch.randn(5, 7)
    total = torch.zeros(7, 7)

    def seen(product: Product) -> Tensor:
        for rows in product.rows(product.input):
            total.add_(rows.T @ rows)
        return product.result(product.input, other)

    with Inputs({"weight": weight}, seen):
        out = way(x, weight)
    flat = x.flatten(0, 1)
    torch.testing.assert_close(total, flat.T @ flat)
    torch.testing.assert_close(out, way(x, other))


@torch.no_grad()
def test_what_has_no_rows_for_outputs_is_not_seen() -> None:
    weight = torch.randn(7, 7)
    with Inputs({"weight": weight}, lambda product: pytest.fail(product.weight)):
        torch.randn(3, 7) @ weight
        F.linear(torch.randn(3, 7), weight[:4])
        F.linear(torch.randn(3, 7), weight + 1)
        F.conv_transpose1d(torch.randn(1, 7, 3), weight[..., None])


def test_a_file_has_them_all(tmp_path: Path) -> None:
    network, config = of_family("dit", tmp_path)
    found = observed("model", network, config.flow, points(), matrices(network))
    path, weights = tmp_path / "hessians.safetensors", dict(network.state_dict())
    known = config.condition
    write_hessians(path, found, {"source_sha256": "a" * 64, "points": 40})
    again = read_hessians(path, "a" * 64, weights, known)
    assert all(a.equal(b) for a, b in zip(again.points, found.points, strict=True))
    for name, moments in found.layers.items():
        assert again.layers[name].hessian.equal(moments.hessian)
        assert again.layers[name].mean.equal(moments.mean)
    with pytest.raises(UserError, match=r"hessians\.safetensors: found Hessians of another model"):
        read_hessians(path, "b" * 64, weights, known)
    first = next(iter(found.layers))
    with pytest.raises(UserError, match=f"unexpected: {first}.hessian"):
        read_hessians(path, "a" * 64, {n: w for n, w in weights.items() if n != first}, known)
    with pytest.raises(UserError, match="of another form"):
        read_hessians(path, "a" * 64, weights | {first: torch.zeros(3, 5)}, known)
    with pytest.raises(UserError, match=r"found weights that nothing .* some\.weight"):
        again.of("model", "some.weight")
    with pytest.raises(UserError, match=r"found conditions of shape .*; expected 1 class, from 0"):
        read_hessians(path, "a" * 64, weights, replace(known, count=1))


def test_too_few_points_say_how_many_suffice(tmp_path: Path) -> None:
    network, config = of_family("dit", tmp_path)
    # The context's layers get one input of 32 values at each point.
    with pytest.raises(UserError, match=r"31 points, .* 31 inputs of 32 .* at least 32 points"):
        observed("model", network, config.flow, points(31), matrices(network))
    observed("model", network, config.flow, points(32), matrices(network))


def test_inputs_beyond_all_numbers(tmp_path: Path) -> None:
    network, config = of_family("transformer", tmp_path)
    x, t, condition = points()
    x[3] = torch.inf
    with pytest.raises(UserError, match=r"NaN or infinite inputs of patch_proj\.weight"):
        observed("model", network, config.flow, (x, t, condition), matrices(network))


def test_a_network_that_multiplies_by_none(tmp_path: Path) -> None:
    network, config = of_family("transformer", tmp_path)
    with pytest.raises(UserError, match=r"weights that nothing .* class_emb\.weight"):
        observed("model", network, config.flow, points(), {"class_emb.weight"})
