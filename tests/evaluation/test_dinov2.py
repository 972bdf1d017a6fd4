"""DINOv2 on random weights under their published names, against its definition written out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from flowquant.evaluation.dinov2 import positions
from flowquant.evaluation.extract import extract
from flowquant.runtime.errors import UserError
from project import oracle

CPU = torch.device("cpu")
# ViT-S/14, trained on images of 518 pixels.
WIDTH, HEADS, BLOCKS, SIDE = 384, 6, 12, 37


def published() -> dict[str, Tensor]:
    """Weights under the names and in the shapes of ``dinov2_vits14_pretrain.pth``."""
    draws = torch.Generator().manual_seed(0)

    def some(*shape: int, scale: float = 0.05) -> Tensor:
        return torch.randn(shape, generator=draws) * scale

    weights = {
        "cls_token": some(1, 1, WIDTH),
        "mask_token": some(1, WIDTH),
        "pos_embed": some(1, 1 + SIDE**2, WIDTH),
        "patch_embed.proj.weight": some(WIDTH, 3, 14, 14),
        "patch_embed.proj.bias": some(WIDTH),
    }
    for block in range(BLOCKS):
        for name, shape in {
            "norm1": (),
            "attn.qkv": (3 * WIDTH, WIDTH),
            "attn.proj": (WIDTH, WIDTH),
            "norm2": (),
            "mlp.fc1": (4 * WIDTH, WIDTH),
            "mlp.fc2": (WIDTH, 4 * WIDTH),
        }.items():
            at = f"blocks.{block}.{name}"
            weights[f"{at}.weight"] = some(*shape) if shape else 1 + some(WIDTH)
            weights[f"{at}.bias"] = some(shape[0] if shape else WIDTH)
        weights |= {f"blocks.{block}.ls{n}.gamma": 1 + some(WIDTH) for n in (1, 2)}
    return weights | {"norm.weight": 1 + some(WIDTH), "norm.bias": some(WIDTH)}


def class_token(weights: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """A vision transformer (Dosovitskiy et al., 2021) with scaled layers (Touvron et al., 2021)."""

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(
            x, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"], eps=1e-6
        )

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    weight, bias = weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"]
    patches = F.conv2d(pixels, weight, bias, stride=14).flatten(2).mT
    x = torch.cat([weights["cls_token"].expand(len(pixels), -1, -1), patches], dim=1)
    x = x + positions(weights["pos_embed"])
    for block in range(BLOCKS):
        at = f"blocks.{block}"
        parts = linear(norm(x, f"{at}.norm1"), f"{at}.attn.qkv").unflatten(2, (3, HEADS, -1))
        q, k, v = (part.transpose(1, 2) for part in parts.unbind(2))
        seen = ((q @ k.mT) / (WIDTH // HEADS) ** 0.5).softmax(-1) @ v
        mixed = linear(seen.transpose(1, 2).flatten(2), f"{at}.attn.proj")
        x = x + weights[f"{at}.ls1.gamma"] * mixed
        inner = F.gelu(linear(norm(x, f"{at}.norm2"), f"{at}.mlp.fc1"))
        x = x + weights[f"{at}.ls2.gamma"] * linear(inner, f"{at}.mlp.fc2")
    return norm(x, "norm")[:, 0]


def test_as_it_is_defined(tmp_path: Path) -> None:
    oracle("timm")
    weights = published()
    torch.save(weights, tmp_path / "weights.pth")
    # As large as it looks at, so that nothing is resized.
    images = torch.randint(256, (2, 3, 224, 224), generator=torch.Generator().manual_seed(1))
    features, logits = extract(
        images.to(torch.uint8), "dinov2-vit-s-14", tmp_path / "weights.pth", CPU
    )
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    wanted = class_token(weights, (images / 255 - mean) / deviation)
    assert logits is None
    torch.testing.assert_close(features, wanted, atol=1e-3, rtol=1e-3)


def test_positions_lie_where_they_were() -> None:
    """A slope over the image stays one: 16 patches a side lie where 37 did."""
    slope = (torch.arange(SIDE) + 0.5) / SIDE
    grid = torch.stack([slope.expand(SIDE, SIDE), slope[:, None].expand(SIDE, SIDE)], dim=-1)
    given = torch.cat([torch.full((1, 1, 2), 9.0), grid.flatten(0, 1)[None]], dim=1)
    found = positions(given)
    assert found.shape == (1, 1 + 16**2, 2)
    assert found[0, 0].tolist() == [9, 9]
    across, down = found[0, 1:].unflatten(0, (16, 16)).unbind(-1)
    wanted = (torch.arange(16) + 0.5) / 16.1
    torch.testing.assert_close(across, wanted.expand(16, 16), atol=5e-3, rtol=0)
    torch.testing.assert_close(down, wanted[:, None].expand(16, 16), atol=5e-3, rtol=0)


def test_without_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"no package timm.*requirements-dinov2\.txt"):
        extract(images, "dinov2-vit-s-14", tmp_path / "weights.pth", CPU)
