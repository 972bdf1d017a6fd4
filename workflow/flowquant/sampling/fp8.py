"""A network that samples in FP8: calibrated on its first images, and watched."""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flowquant.models.fp8 import fuse_fp8, observed
from flowquant.models.fused import fuse
from flowquant.models.solver import Velocity, solve
from flowquant.quantization.packed_network import take_turns

# A coarse integration of a few images passes all times: activations change slowly with time.
STEPS, IMAGES = 16, 64


def use_fp8(
    network: nn.Module, velocity: Callable[[Tensor], Velocity], noise: Tensor, condition: Tensor
) -> Tensor | None:
    """Let a fused network's encoder layers compute in FP8; says where some or all do not.

    Args:
        network: In bfloat16.
        velocity: By the network, under a condition.
        noise: Of a batch, [B, C, H, W].
        condition: Its classes [B] or attributes [B, A].

    Returns:
        The count of saturated activations, int32 [1], if FP8 works here.
    """
    with observed(network) as inputs:
        solve(velocity(condition[:IMAGES]), noise[:IMAGES], "euler", STEPS)
    fuse(network)
    try:
        count, saturated = fuse_fp8(network, inputs)
        # Weights that stay packed are expanded in other types, and perhaps another order.
        take_turns(network)
        velocity(condition)(noise, noise.new_zeros(1))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever Triton or a library raises on a GPU unknown to it
        fuse(network)
        take_turns(network)
        why = str(error).partition("\n")[0]
        print(f"FP8 does not work here, computing in bfloat16: {why}", file=sys.stderr)
        return None
    if not count or count < len(inputs):
        why = ": sizes of matrices must be multiples of 16" if inputs else ""
        print(
            f"FP8: {count} of {len(inputs)} encoder layers compute in it, all else in bfloat16"
            f"{why}",
            file=sys.stderr,
        )
    return saturated


def warn_of_saturation(saturated: Tensor) -> None:
    """Say how many activations saturated since this was last asked."""
    if beyond := int(saturated.item()):
        saturated.zero_()
        print(
            f"FP8: {beyond} activations of a batch were beyond the scales of the first batch and "
            "saturated; `precision: bfloat16` has room for them",
            file=sys.stderr,
        )
