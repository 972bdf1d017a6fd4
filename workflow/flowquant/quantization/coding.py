"""Entropy coding of indices: asymmetric numeral systems with one table of frequencies a tensor.

The coder is constriction's (Bamler, arXiv 2201.01741); docs/format.md says to the bit what it does.
A table for each run of rows was tried: it takes as much room as it saves.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowquant.runtime.errors import UserError

# The frequencies of a table add up to this.
TOTAL = 1 << 16
# constriction's own frequencies add up to 2^24.
_FINER = (1 << 24) // TOTAL
# Above this a table takes more than a packed index could save.
MOST_LEVELS = 1 << 12
# What the coder holds before the first index is encoded and after the last one is decoded. Not 0:
# then what is stored is never empty, and never ends in the zero words that an `AnsCoder` drops.
_START = np.ones(1, dtype=np.uint32)


@dataclass(frozen=True)
class Coded:
    """Entropy-coded indices.

    Args:
        stream: uint8 [4·W], the coder's words of 32 bits, little-endian.
        frequencies: uint16 [max(2, L)]: of each index, less one; of 65,536.
    """

    stream: Tensor
    frequencies: Tensor

    @property
    def bytes(self) -> int:
        """How many bytes are stored, the table included."""
        return self.stream.numel() + 2 * self.frequencies.numel()


def encode(indices: Tensor, levels: int) -> Coded:
    """Encode indices 0 ≤ i < ``levels`` ≤ `MOST_LEVELS`, any shape, in row-major order."""
    flat = indices.detach().flatten().cpu().numpy().astype(np.int32, copy=False)
    table = _frequencies(np.bincount(flat, minlength=max(2, levels)))
    coder = _library().stream.stack.AnsCoder(_START)
    coder.encode_reverse(flat, _model(table))
    words = coder.get_compressed().astype("<u4", copy=False)
    return Coded(torch.from_numpy(words.view(np.uint8)), torch.from_numpy(table.astype(np.uint16)))


def decode(coded: Coded, count: int) -> Tensor:
    """The inverse of `encode`: ``count`` indices, int32 [count].

    Raises:
        ValueError: if the table or the stream is none, or the stream one of another count.
    """
    table = coded.frequencies.numpy().astype(np.int64)
    if len(table) < 2 or table.sum() + len(table) != TOTAL:
        raise ValueError("a table of frequencies that is none")
    if coded.stream.numel() % 4:
        raise ValueError("half a word")
    words = np.frombuffer(coded.stream.numpy().tobytes(), dtype="<u4").astype(np.uint32)
    coder = _library().stream.stack.AnsCoder(words)
    indices = coder.decode(_model(table), count)
    if not np.array_equal(coder.get_compressed(), _START):
        raise ValueError("a stream of another number of indices")
    return torch.from_numpy(indices)


def _frequencies(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each index's share of `TOTAL`, less one, so that none has no share.

    What rounding leaves over goes to the largest remainders.
    """
    shared, most = TOTAL - len(counts), max(1, int(counts.sum()))
    table, remainders = np.divmod(counts * shared, most)
    if counts.any():
        rest = shared - int(table.sum())
        table[np.argsort(-remainders, kind="stable")[:rest]] += 1
    else:
        table[0] = shared
    return table


def _model(table: NDArray[np.int64]) -> object:
    """The coder's model: it gives each index 1 of 2^24, and the rest as these shares, exactly."""
    shares = (table + 1) * _FINER - 1
    return _library().stream.model.Categorical(shares.astype(np.float64), perfect=False)


def _library() -> ModuleType:
    try:
        import constriction
    except ImportError as error:
        raise UserError(
            "coding: ans",
            found="no package constriction",
            expected="it to be installed: it codes and decodes indices",
            remedy="Install it: `pip install -r envs/requirements.txt`.",
        ) from error
    return constriction
