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

    def split(self, count: int) -> list[Points]:
        """The points in parts of ``count``, the last perhaps smaller."""
        parts = (tensor.split(count) for tensor in (self.x, self.t, self.condition))
        return [Points(*part) for part in zip(*parts, strict=True)]


@dataclass(frozen=True)
class Trajectories:
    """States of N trajectories at S flow times each.

    ``x`` [S, N, C, H, W] float32, ``t`` [S], ``condition`` [N] or [N, A].
    """

    x: Tensor
    t: Tensor
    condition: Tensor

    def draw(self, count: int) -> Points:
        """Some of the points, drawn with replacement by torch's global generators."""
        steps, samples = self.x.shape[:2]
        step = torch.randint(steps, (count,), device=self.x.device)
        sample = torch.randint(samples, (count,), device=self.x.device)
        return Points(self.x[step, sample], self.t[step], self.condition[sample])


def image_points(images: Tensor, labels: Tensor, sigma: float, count: int) -> Points:
    """Points on straight paths from noise N(0, sigma²) to images, by torch's global generators.

    ``count`` of the images uint8 [N, C, H, W] are drawn with replacement, with their labels,
    classes [N] or attributes [N, A].
    """
    rows = torch.randint(len(images), (count,), device=images.device)
    chosen = to_unit(images[rows])
    t = torch.rand(count, device=images.device)
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
) -> Trajectories:
    """``count`` Euler trajectories of a network, of ``steps`` points each.

    Classes take turns; attributes are all 0, as they are sampled.
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
        given = condition[rows.start : rows.stop]
        for index, time in enumerate(times):
            states[index, rows.start : rows.stop] = x
            x = x + velocity(network, config.flow, x, time.expand(len(x)), given).float() / steps
    return Trajectories(states, times, condition)
