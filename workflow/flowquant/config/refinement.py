"""How a quantized model is refined."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from flowquant.config.fields import (
    Count,
    Natural,
    NonNegative,
    Positive,
    Probability,
    check_shares,
    refuse,
    section,
)
from flowquant.runtime.names import Precision


@section
class RefineConfig:
    """How a quantized model is refined (the keys under ``refine`` in a method's row)."""

    steps: Count
    """Steps of Adam."""

    batch: Count = 256
    """Points (x_t, t, y) a step."""

    learning_rate: Positive = 0.001
    """Of levels and unquantized parameters: peak of the one-cycle schedule."""

    assignments: Literal["fixed", "trained"] = "fixed"
    """``fixed``: each value keeps its level. ``trained``: values are trained too, starting from the
    originals, or with ``compensate`` from their levels, and each takes the nearest level at every
    step; gradients pass straight through the rounding."""

    value_learning_rate: Positive = 0.0002
    """With ``assignments: trained``: the values' peak."""

    damping: Probability = 0.001
    """With ``assignments: trained``: share of the way to its level that each value moves at every
    step, growing from 0 at the first to this at the last, so that values settle."""

    price: NonNegative = 0
    """With ``assignments: trained`` and ``coding: ans``: what the loss rises by for each bit a
    quantized value that its coded indices take, so that fewer are spent where they matter least."""

    rounds: Natural = 0
    """With ``assignments: fixed``: times that each value is assigned anew to the nearest trained
    level, at even distances."""

    data: Literal["images", "trajectories"] = "images"
    """Points on paths from noise to training ``images``, or, without data, on the full-precision
    model's own ``trajectories``."""

    trajectories: Count = 2048
    """With ``data: trajectories``: how many of them."""

    trajectory_steps: Count = 50
    """With ``data: trajectories``: Euler steps of each, and points on it."""

    precision: Precision = "bfloat16"
    """Of the forward and backward pass on a GPU; CPUs compute in float32."""

    seed: Natural = 0
    """Of points and times."""

    @model_validator(mode="after")
    def _check(self) -> RefineConfig:
        if self.rounds and self.assignments == "trained":
            refuse(
                "rounds",
                found=f"{self.rounds} with `assignments: trained`",
                expected="0, since values then take the nearest level at every step",
                remedy="Leave `rounds` out, or set `assignments: fixed`.",
            )
        if self.price and self.assignments == "fixed":
            refuse(
                "price",
                found=f"{self.price:g} with `assignments: fixed`",
                expected="0, since indices stay what they are",
                remedy="Set `assignments: trained`, or leave `price` out.",
            )
        if self.rounds > self.steps:
            refuse(
                "rounds",
                found=self.rounds,
                expected=f"at most `steps`, {self.steps}",
                remedy="Assign values anew less often, or take more steps.",
            )
        return self


@section
class RefineSection(RefineConfig):
    """How, and on how many devices, a quantized model is refined."""

    devices: Count = 1
    """GPUs of one node that share each batch, which they must divide; the loss is the same but for
    rounding."""

    @model_validator(mode="after")
    def _check_devices(self) -> RefineSection:
        check_shares(self.batch, self.devices)
        return self
