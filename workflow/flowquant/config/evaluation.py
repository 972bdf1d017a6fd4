"""How samples are scored, and compared with those of full precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ExtractorName = Literal["inception-v3-compat", "classifier"]


@dataclass(frozen=True)
class MetricsConfig:
    """Settings of the metrics (keys under ``evaluation``).

    ``kid_subset_size`` is cut to the number of images there are.
    """

    kid_subsets: int
    kid_subset_size: int
    is_splits: int


@dataclass(frozen=True)
class FidelityConfig:
    """How many samples' trajectories are followed, in how many Euler steps."""

    samples: int
    steps: int
