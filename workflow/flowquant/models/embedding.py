"""Sines and cosines for networks to know times and places by (Vaswani et al., 1706.03762)."""

import math

import torch
from torch import Tensor

PERIOD = 10_000


def frequencies(count: int, like: Tensor) -> Tensor:
    """Angular frequencies from 1 down to nearly 1/`PERIOD`, in equal ratios; float32 [count].

    Made by the device that holds ``like``, so that a CUDA graph may capture it.
    """
    steps = torch.arange(count, dtype=torch.float32, device=like.device)
    return torch.exp(-math.log(PERIOD) * steps / count)


def time_features(time: Tensor, count: int) -> Tensor:
    """Cosines, then sines, of times [B]: float32 [B, count], of which an odd last one is 0."""
    angles = time[:, None].float() * frequencies(count // 2, time)
    return torch.nn.functional.pad(torch.cat([angles.cos(), angles.sin()], 1), (0, count % 2))
