"""Bootstrap resamples that variants which share noise and labels share, too.

Sample i of every variant begins from the same noise and label, so what chance adds to the FID of
one it mostly adds to that of another. The same indices are drawn anew, with replacement, for all
(the paired bootstrap, Efron and Tibshirani 1993): intervals of a difference are then far narrower
than those of the FIDs. Real images are taken as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from flowquant.runtime import random


def resample_counts(n: int, resamples: int, seed: int) -> Tensor:
    """How often each of n samples is drawn into each resample, int64 [B, n]."""
    draws = random.generator(seed, "bootstrap")
    rows = [torch.randint(n, (n,), generator=draws).bincount(minlength=n) for _ in range(resamples)]
    return torch.stack(rows) if rows else torch.empty(0, n, dtype=torch.int64)
