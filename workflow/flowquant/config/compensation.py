"""How a quantized model makes up for its own error."""

from __future__ import annotations

from typing import Literal

from flowquant.config.fields import Count, Flag, Positive, section


@section
class PointsConfig:
    """Points (x_t, t, y) at which the inputs of a network's layers are looked at."""

    points: Count = 2048
    """How many. No layer may get fewer inputs than each has values."""

    source: Literal["images", "trajectories"] = "images"
    """Points on paths from noise to training ``images``, or, without data, on the full-precision
    model's own ``trajectories``."""


@section
class CompensationConfig(PointsConfig):
    """How values make up for the error of others (the keys under ``compensate`` in a row)."""

    damping: Positive = 0.01
    """Share of a Hessian's mean diagonal that is added to it, and by which levels are held where
    they are."""

    sequential: Flag = True
    """Whether layers are quantized in the order in which they run, each making up for the errors of
    those before it, too: in memory for all points at once. Else each by itself."""


DEFAULT = CompensationConfig()
