"""Pixels as bytes and as numbers."""

import torch
from torch import Tensor


def to_unit(images: Tensor) -> Tensor:
    """uint8 0…255 → float32 −1…1."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """float −1…1 → uint8 0…255, clamped and rounded (the reference truncates)."""
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
