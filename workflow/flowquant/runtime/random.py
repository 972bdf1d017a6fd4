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
    indices = list(indices)
    draws = np.empty((len(indices), *shape), dtype=np.float32)
    bits = np.random.Philox(key=[key(seed, purpose), 0])
    start, values = bits.state, np.random.Generator(bits)
    for row, index in zip(draws, indices, strict=True):
        # As a new generator would be, in less than half the time.
        start["state"]["key"][1] = index
        bits.state = start
        values.standard_normal(out=row, dtype=np.float32)
    return torch.from_numpy(draws)
