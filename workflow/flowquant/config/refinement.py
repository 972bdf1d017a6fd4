"""How a quantized model is refined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flowquant.runtime.names import Precision


@dataclass(frozen=True)
class RefineConfig:
    """How a quantized model is refined (the keys under ``refine`` in a method's row)."""

    steps: int
    batch: int
    learning_rate: float
    assignments: Literal["fixed", "trained"]
    value_learning_rate: float
    damping: float
    rounds: int
    data: Literal["images", "trajectories"]
    trajectories: int
    trajectory_steps: int
    precision: Precision
    seed: int
