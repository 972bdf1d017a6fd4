"""Random draws that depend on (seed, purpose, index) and on nothing else."""

import hashlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


def key(seed: int, purpose: str, index: int = 0) -> int:
    """A 63-bit hash of (seed, purpose, index), to seed other generators with."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{index}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(
    seed: int, purpose: str, index: int = 0, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A torch generator seeded by the `key` of (seed, purpose, index)."""
    return torch.Generator(device).manual_seed(key(seed, purpose, index))


def normal(seed: int, purpose: str, indices: Iterable[int], shape: tuple[int, ...]) -> Tensor:
    """Standard normal draws, one independent stream per index: float32 [len(indices), *shape].

    They are on the CPU. A counter-based generator (Philox) is keyed by the seed and purpose and
    starts at the index ≥ 0, so row i is the same however the indices are cut into batches, shards
    or devices.
    """
    stream = key(seed, purpose)
    rows = [
        np.random.Generator(np.random.Philox(key=[stream, index])).standard_normal(
            shape, dtype=np.float32
        )
        for index in indices
    ]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, *shape)
