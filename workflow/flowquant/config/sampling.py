"""How a flow is integrated, how much is sampled, and what a sweep compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flowquant.runtime.names import Precision

Condition = Literal["zeros", "test"]


SolverName = Literal["euler", "midpoint", "heun", "dopri5"]


@dataclass(frozen=True)
class SolverConfig:
    """How the flow is integrated: in ``steps`` equal steps, or within ``tolerance`` by dopri5."""

    solver: SolverName = "euler"
    steps: int = 100
    guidance: float = 1.0
    precision: Precision = "bfloat16"
    tolerance: float = 1e-5


@dataclass(frozen=True)
class SamplingConfig:
    """How images are sampled (the keys under ``sampling`` in a dataset's preset)."""

    solver: SolverName
    steps: int
    per_class: int
    condition: Condition = "zeros"
    guidance: float = 1.0
    precision: Precision = "bfloat16"
    tolerance: float = 1e-5


@dataclass(frozen=True)
class SweepConfig:
    """What is compared (keys under ``sweep``), and what all samples share (under ``sampling``)."""

    solvers: tuple[SolverName, ...]
    evaluations: tuple[int, ...]
    tolerances: tuple[float, ...]
    per_class: int
    condition: Condition
    guidance: float
    precision: Precision
