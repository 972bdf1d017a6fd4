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
# Of so many steps the last is in bfloat16: the flow makes up for early errors, not for late ones.
OF_STEPS = 20


def use_fp8(
    network: nn.Module, velocity: Callable[[Tensor], Velocity], noise: Tensor, condition: Tensor
) -> InFp8 | None:
    """Let a fused network's encoder layers compute in FP8; says where some or all do not.

    Args:
        network: In bfloat16.
        velocity: By the network, under a condition.
        noise: Of a batch, [B, C, H, W].
        condition: Its classes [B] or attributes [B, A].

    Returns:
        What computes in FP8, if it works here.
    """
    with observed(network) as inputs:
        solve(velocity(condition[:IMAGES]), noise[:IMAGES], "euler", STEPS)
    fuse(network)
    try:
        found = fuse_fp8(network, inputs)
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
    if not found.layers or found.layers + found.kept < len(inputs):
        why = ": sizes of matrices must be multiples of 16" if inputs else ""
        print(
            f"FP8: {found.layers} of {len(inputs)} encoder layers compute in it, all else in "
            f"bfloat16{why}",
            file=sys.stderr,
        )
    return found


def late_steps(steps: int) -> int:
    """How many steps, the last of those from t = 0 to t = 1, are to be in bfloat16."""
    return steps // OF_STEPS


def late_in_bfloat16(velocity: Velocity, in_fp8: InFp8) -> Velocity:
    """The same, but late times, for which a GPU is waited for, are in bfloat16."""

    def at(x: Tensor, t: Tensor) -> Tensor:
        # Within what float32 makes of a step's time.
        if t.max().item() < 1 - 1 / OF_STEPS - 1e-6:
            return velocity(x, t)
        with in_fp8.off():
            return velocity(x, t)

    return at


def warn_of_saturation(saturated: Tensor) -> None:
    """Say how many activations saturated since this was last asked."""
    if beyond := int(saturated.item()):
        saturated.zero_()
        print(
            f"FP8: {beyond} activations of a batch were beyond the scales of the first batch and "
            "saturated; `precision: bfloat16` has room for them",
            file=sys.stderr,
        )
