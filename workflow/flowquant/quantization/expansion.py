"""Memory in which a network's packed weights lie expanded, one after another, on a GPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

# Of a value: bfloat16's.
MOST_BYTES = 2
# Where products in FP8 need a matrix to begin, and others are fastest.
ALIGNED = 256


class Expandable(Protocol):
    """A weight that can be written, expanded, into memory given for it; known by its indices."""

    shape: tuple[int, ...]
    packed: Tensor

    def expand_into(self, out: Tensor) -> None:
        """Write all values."""
        ...


class Turns:
    """Two places that hold the largest of the weights, which take turns in them.

    While a layer multiplies by the weight in one place, the next is expanded into the other on a
    stream of its own. What follows what is learnt from the first evaluation, which those after it
    must repeat in the same types; nothing is begun after an evaluation's last weight, so that a
    captured evaluation is whole.

    Args:
        weights: All that may be asked for.
        device: Where they lie; on a CPU nothing is expanded ahead.
    """

    def __init__(self, weights: Iterable[Expandable], device: torch.device) -> None:
        most = max(torch.Size(weight.shape).numel() for weight in weights) * MOST_BYTES
        most = -(-most // ALIGNED) * ALIGNED
        self._places = torch.empty(2, most, dtype=torch.uint8, device=device)
        self._aside = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._followers: dict[int, tuple[Expandable, torch.dtype] | None] = {}
        self._last = 0
        self._ahead: tuple[int, torch.dtype] | None = None
        self._place = 0

    def expanded(self, weight: Expandable, dtype: torch.dtype) -> Tensor:
        """The weight in a type of at most 2 bytes, until another is asked for."""
        room = self._room(weight, dtype, 1 - self._place)
        key = id(weight.packed)
        if key not in self._followers:
            if self._last:
                self._followers[self._last] = weight, dtype
            self._followers[key] = None
        self._last, ahead, self._ahead = key, self._ahead, None
        self._place = 1 - self._place
        if ahead is not None and self._aside is not None:
            torch.cuda.current_stream().wait_stream(self._aside)
        if ahead != (key, dtype):
            weight.expand_into(room)
        following = self._followers[key]
        if following is not None and self._aside is not None:
            # The weight before this one lay in the other place: it is done with by then.
            self._aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._aside):
                following[0].expand_into(self._room(*following, 1 - self._place))
            self._ahead = id(following[0].packed), following[1]
        return room

    def _room(self, weight: Expandable, dtype: torch.dtype, place: int) -> Tensor:
        size = torch.Size(weight.shape).numel() * dtype.itemsize
        return self._places[place, :size].view(dtype).view(weight.shape)
