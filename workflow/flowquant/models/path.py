"""The flow: its straight path from noise to image, its clock, and the flow-matching loss."""

import torch
from torch import Tensor, nn

from flowquant.config.model import FlowConfig
from flowquant.runtime import random


def initial_noise(config: FlowConfig, seed: int, indices: range, shape: tuple[int, ...]) -> Tensor:
    """The start of samples ``indices``: float32 [len(indices), *shape], keyed by (seed, index)."""
    return random.normal(seed, "sample", indices, shape).mul_(config.sigma)


def interpolate(noise: Tensor, images: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 − t)·x₀ + t·x₁ for images and noise [B, C, H, W] and t [B]."""
    t = t.view(-1, *[1] * (images.dim() - 1))
    return torch.lerp(noise, images, t)


def velocity(
    network: nn.Module,
    config: FlowConfig,
    x: Tensor,
    t: Tensor,
    condition: Tensor,
    kept: Tensor | None = None,
) -> Tensor:
    """dx/dt at flow time ``t`` [B], or [1] for all, whatever the network's clock shows.

    The other arguments are those of the network: see `VelocityNetwork.forward`.
    """
    time = t if config.clock == "forward" else 1 - t
    if config.time_scale != 1:
        time = time * config.time_scale
    return network(x, time, condition, kept)


def guided_velocity(
    network: nn.Module,
    config: FlowConfig,
    x: Tensor,
    t: Tensor,
    condition: Tensor,
    scale: float,
) -> Tensor:
    """dx/dt under classifier-free guidance: v(no condition) + scale·(v(condition) − v(none)).

    Ho & Salimans 2022 (arXiv 2207.12598), with velocities for scores: both are linear in the
    same denoiser. Scale 1 is `velocity` itself; any other costs twice as much, as one batch.
    """
    if scale == 1:
        return velocity(network, config, x, t, condition)
    kept = torch.cat([x.new_ones(len(x)), x.new_zeros(len(x))])
    times = t if len(t) == 1 else t.repeat(2)
    both = velocity(
        network, config, torch.cat([x, x]), times, torch.cat([condition, condition]), kept
    )
    conditional, unconditional = both.chunk(2)
    return torch.lerp(unconditional, conditional, scale)


def matching_loss(
    network: nn.Module,
    config: FlowConfig,
    images: Tensor,
    noise: Tensor,
    t: Tensor,
    condition: Tensor,
    kept: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the velocity against x₁ − x₀ (conditional flow matching), a scalar.

    Images x₁ in −1…1 and noise x₀ ~ N(0, sigma²) are [B, C, H, W], flow times t in 0…1 [B];
    ``condition`` and ``kept`` are those of `VelocityNetwork.forward`.
    """
    x_t = interpolate(noise, images, t)
    predicted = velocity(network, config, x_t, t, condition, kept)
    return (predicted - (images - noise)).square().mean()
