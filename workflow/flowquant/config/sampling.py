"""How a flow is integrated, how much is sampled, and what a sweep compares."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flowquant.config.fields import (
    EACH_ONCE,
    WHOLE,
    Count,
    Item,
    NonNegative,
    number,
    section,
    whole,
)
from flowquant.runtime.names import SamplingPrecision

SolverName = Literal["euler", "midpoint", "heun", "dopri5"]
Condition = Literal["zeros", "test"]
# Images sampled at a time, unless somebody says otherwise.
BATCH = 500
Tolerance = Annotated[float, number(gt=0, le=1)]


@section
class VelocityConfig:
    """How a network is asked for a velocity."""

    guidance: NonNegative = 1.0
    """Scale of classifier-free guidance; 1 is none."""

    precision: SamplingPrecision = "auto"
    """Of the network: ``auto`` is ``bfloat16`` on a GPU and ``float32`` on a CPU, which computes in
    ``bfloat16`` if it is asked and has it, in a third of the time. ``fp8``: a transformer's encoder
    layers in e4m3 where the GPU has it, but for the first two and one step of twenty, the last; the
    rest in bfloat16."""


@section
class SolverConfig(VelocityConfig):
    """How the flow's ODE is integrated."""

    solver: SolverName = "euler"
    """``euler``, ``midpoint`` and ``heun`` take equal ``steps``; ``dopri5`` chooses its own, which
    suit a whole ``batch``."""

    steps: Count
    """Equal steps; not for ``dopri5``."""

    tolerance: Tolerance = 1e-5
    """Of ``dopri5``, relative and absolute."""


@section
class LabelsConfig:
    """What samples are asked for."""

    per_class: Count = 100
    """Samples of each class, or a tenth of all with attributes."""

    condition: Condition = "zeros"
    """Attributes all 0 (``zeros``), or those of the first ``test`` images."""


@section
class SamplingConfig(SolverConfig, LabelsConfig):
    """How images are sampled (the keys under ``sampling`` in a dataset's preset)."""


@section
class SamplingSection(SamplingConfig):
    """How, and on how many devices, images are sampled."""

    devices: Count = 1
    """GPUs of one node that share the images."""


@section
class ComparisonConfig:
    """Which ways to integrate a sweep compares."""

    solvers: Annotated[tuple[SolverName, ...], Field(min_length=1), EACH_ONCE] = (
        "euler",
        "midpoint",
        "heun",
        "dopri5",
    )
    """Solvers to compare."""

    evaluations: Annotated[
        tuple[Annotated[int, whole(ge=2), WHOLE], ...], Field(min_length=1), EACH_ONCE
    ] = (10, 25, 50, 100, 500)
    """Evaluations of the velocity an image, of the solvers with equal steps; ``midpoint`` and
    ``heun`` evaluate twice a step, so 25 becomes 12 steps and 24 evaluations."""

    tolerances: Annotated[tuple[Tolerance, ...], Field(min_length=1), EACH_ONCE] = (
        1e-2,
        1e-3,
        1e-4,
        1e-5,
    )
    """Of ``dopri5``, whose evaluations are counted."""


@section
class SweepSection(ComparisonConfig):
    """What ``snakemake sweep`` compares."""

    variants: Annotated[tuple[Item, ...], Field(min_length=1), EACH_ONCE] | None = None
    """Names such as ``full`` and ``ot/2bit``; ``null`` for all."""


@section
class SweepConfig(ComparisonConfig, VelocityConfig, LabelsConfig):
    """What a sweep compares, and what all its samples share."""
