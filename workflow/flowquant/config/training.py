"""How a network is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flowquant.runtime.names import Precision


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained (the keys under ``training`` in a dataset's preset)."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    schedule: Literal["plateau", "cosine"]
    warmup_epochs: float
    halve_after: int
    stop_after: int
    clip: float | None
    validation: int | None
    condition_dropout: float
    ema: float | None
    precision: Precision
