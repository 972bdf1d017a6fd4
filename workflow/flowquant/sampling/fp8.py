"""A network that samples in FP8: calibrated on its first images, and watched."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flowquant.models.fp8 import InFp8, fuse_fp8, observed
from flowquant.models.fused import fuse
from flowquant.models.solver import Velocity, solve
from flowquant.quantization.packed_network import take_turns

# A coarse integration of a few images passes all times: activations change slowly with time.
STEPS, IMAGES = 16, 64
# How often grids of rounding turn in a step: neighbouring steps' lie far apart, many steps' evenly.
TURNS = (5**0.5 - 1) / 2


def use_fp8(
    network: nn.Module,
    velocity: Callable[[Tensor], Velocity],
    noise: Tensor,
    condition: Tensor,
    steps: int,
) -> InFp8 | None:
    """Let a fused network's encoder layers compute in FP8; says where some or all do not.

    Args:
        network: In bfloat16.
        velocity: By the network, under a condition.
        noise: Of a batch, [B, C, H, W].
        condition: Its classes [B] or attributes [B, A].
        steps: How many are taken from t = 0 to t = 1.

    Returns:
        What computes in FP8, if it works here.
    """
    with observed(network) as inputs:
        solve(velocity(condition[:IMAGES]), noise[:IMAGES], "euler", STEPS)
    fuse(network)
    try:
        found = fuse_fp8(network, inputs, steps * TURNS)
        # Weights that stay packed are expanded in other types, and perhaps another order.
        take_turns(network)
        found.turn(noise.new_zeros(1))
        velocity(condition)(noise, noise.new_zeros(1))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever Triton or a library raises on a GPU unknown to it
        fuse(network)
        take_turns(network)
        why = str(error).partition("\n")[0]
        print(f"FP8 does not work here, computing in bfloat16: {why}", file=sys.stderr)
        return None
    if not found.layers or found.layers + found.kept < len(inputs):
        why = ": sizes of matrices must be multiples of 16" if inputs else ""
        print(
            f"FP8: {found.layers} of {len(inputs)} encoder layers compute in it, all else in "
            f"bfloat16{why}",
            file=sys.stderr,
        )
    return found


def warn_of_saturation(saturated: Tensor) -> None:
    """Say how many activations saturated since this was last asked."""
    if beyond := int(saturated.item()):
        saturated.zero_()
        print(
            f"FP8: {beyond} activations of a batch were beyond the scales of the first batch and "
            "saturated; `precision: bfloat16` has room for them",
            file=sys.stderr,
        )
