"""Points (x_t, t, y) at which two networks' velocities are compared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flowquant.config.model import ModelConfig
from flowquant.data.pixels import to_unit
from flowquant.models.path import initial_noise, interpolate, velocity
from flowquant.runtime import random


@dataclass(frozen=True)
class Points:
    """States ``x`` [B, C, H, W] at flow times ``t`` [B] under ``condition`` [B] or [B, A]."""

    x: Tensor
    t: Tensor
    condition: Tensor


def image_points(images: Tensor, labels: Tensor, sigma: float, count: int) -> Points:
    """Points on straight paths from noise to images, drawn with torch's global generators.

    Args:
        images: uint8 [N, C, H, W].
        labels: Their classes [N] or attributes [N, A].
        sigma: Standard deviation of the noise.
        count: How many points; images are drawn with replacement.
    """
    where = images.device
    rows = torch.randint(len(images), (count,), device=where)
    chosen = to_unit(images[rows])
    t = torch.rand(count, device=where)
    noise = torch.randn_like(chosen) * sigma
    return Points(interpolate(noise, chosen, t), t, labels[rows])


@torch.no_grad()
def trajectory_points(
    network: nn.Module,
    config: ModelConfig,
    count: int,
    steps: int,
    seed: int,
    device: torch.device,
    batch: int = 512,
) -> Points:
    """All points of ``count`` Euler trajectories of a network, ``steps`` on each.

    Classes take turns; attributes are all 0, as they are sampled.

    Returns:
        ``x`` [steps, count, C, H, W] float32, ``t`` [steps], ``condition`` [count] or [count, A].
    """
    image = config.image
    shape = (image.channels, image.size, image.size)
    if config.condition.kind == "class":
        condition = torch.arange(count, device=device) % config.condition.count
    else:
        condition = torch.zeros(count, config.condition.count, dtype=torch.uint8, device=device)
    times = torch.arange(steps, device=device) / steps
    states = torch.empty(steps, count, *shape, device=device)
    for start in range(0, count, batch):
        rows = range(start, min(start + batch, count))
        x = initial_noise(config.flow, random.key(seed, "trajectories"), rows, shape).to(device)
        told = condition[rows.start : rows.stop]
        for index, time in enumerate(times):
            states[index, rows.start : rows.stop] = x
            x = x + velocity(network, config.flow, x, time.expand(len(x)), told).float() / steps
    return Points(states, times, condition)


def drawn_from(trajectories: Points, count: int) -> Points:
    """Points of those that `trajectory_points` returned, drawn with torch's global generators."""
    steps, samples = trajectories.x.shape[:2]
    where = trajectories.x.device
    step = torch.randint(steps, (count,), device=where)
    sample = torch.randint(samples, (count,), device=where)
    return Points(
        trajectories.x[step, sample], trajectories.t[step], trajectories.condition[sample]
    )
