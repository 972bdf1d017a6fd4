"""Memory in which a network's packed weights lie expanded, some at a time, on a GPU."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor

# Of a value: bfloat16's.
MOST_BYTES = 2
# Where products in FP8 need a matrix to begin, and others are fastest.
ALIGNED = 256
# Each time that streams wait for one another takes a microsecond or two of a captured evaluation.
# So weights are expanded together: as many as a place this many times the largest holds, which is
# about half a transformer's layer, but not more bytes than two places leave room for in a GPU's
# cache.
LARGEST = 2
TOGETHER = 1 << 24
# The second group, asked for soon after the first weight, takes at most this part of a place.
SOON = 4


# A weight, by its indices, in a type.
Key = tuple[int, torch.dtype]


class Expandable(Protocol):
    """A weight that can be written, expanded, into memory given for it; known by its indices."""

    shape: tuple[int, ...]
    packed: Tensor

    def expand_into(self, out: Tensor) -> None:
        """Write all values."""
        ...


class Turns:
    """Two places, each of which holds a weight, or as many small ones as fit, that follow it.

    While layers multiply by the weights in one place, the next ones are expanded into the other on
    a stream of its own. What follows what is learnt from the evaluation before, which the next
    should repeat in the same types. The first weight is expanded by itself, when it is asked for,
    beside a few that follow, and nothing is begun after the last, so that a captured evaluation is
    whole.

    Args:
        weights: All that may be asked for.
        device: Where they lie; on a CPU nothing is expanded ahead.
    """

    def __init__(self, weights: Iterable[Expandable], device: torch.device) -> None:
        sizes = [_size(weight, MOST_BYTES) for weight in weights]
        largest = max(sizes)
        self._room = max(largest, min(LARGEST * largest, TOGETHER, sum(sizes)))
        self._places = torch.empty(2, self._room, dtype=torch.uint8, device=device)
        self._aside = torch.cuda.Stream(device) if device.type == "cuda" else None
        # Of this evaluation, in order; and whether one of them is in no group.
        self._asked: dict[Key, tuple[Expandable, torch.dtype]] = {}
        self._missed = False
        # Weights, each with where it goes in the place that its group has.
        self._groups: list[dict[Key, tuple[Expandable, Tensor]]] = []
        self._group_of: dict[Key, int] = {}
        self._here: int | None = None
        self._ahead: int | None = None

    def expanded(self, weight: Expandable, dtype: torch.dtype) -> Tensor:
        """The weight in a type of at most 2 bytes, until another is asked for."""
        key = id(weight.packed), dtype
        if self._asked and key[0] == next(iter(self._asked))[0]:
            # Another evaluation begins.
            if self._missed:
                self._form_groups()
            self._asked, self._missed = {}, False
        self._asked.setdefault(key, (weight, dtype))
        group = self._group_of.get(key)
        if group is None:
            self._missed = True
            return self._alone(weight, dtype)
        if group == 0:
            # Even where it still lies there: the evaluation may be captured.
            self._wait()
            self._begin(1)
            self._expand(0)
        elif group != self._here:
            if self._wait() != group:
                self._expand(group)
            self._begin(group + 1)
        self._here = group
        return self._groups[group][key][1]

    def _form_groups(self) -> None:
        """Of what was asked for: the first weight, a few, then as many as a place holds."""
        self._wait()
        self._here, self._groups, self._group_of, start, most = None, [], {}, 0, 0
        for key, (weight, dtype) in self._asked.items():
            size = _size(weight, dtype.itemsize)
            if start + size > most:
                self._groups.append({})
                start, most = 0, {1: 0, 2: self._room // SOON}.get(len(self._groups), self._room)
            group = len(self._groups) - 1
            self._groups[group][key] = weight, self._view(weight, dtype, group % 2, start)
            self._group_of[key] = group
            start += size

    def _alone(self, weight: Expandable, dtype: torch.dtype) -> Tensor:
        """A weight that is in no group."""
        self._wait()
        self._here, room = None, self._view(weight, dtype, 0, 0)
        weight.expand_into(room)
        return room

    def _wait(self) -> int | None:
        """For what is under way aside; returns which group that was."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and self._aside is not None:
            torch.cuda.current_stream().wait_stream(self._aside)
        return ahead

    def _begin(self, group: int) -> None:
        """Expand a group, if there is one, beside what is to come."""
        if self._aside is None or group == len(self._groups):
            return
        # What the other place held is done with by then.
        self._aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._aside):
            self._expand(group)
        self._ahead = group

    def _expand(self, group: int) -> None:
        for weight, room in self._groups[group].values():
            weight.expand_into(room)

    def _view(self, weight: Expandable, dtype: torch.dtype, place: int, start: int) -> Tensor:
        end = start + torch.Size(weight.shape).numel() * dtype.itemsize
        return self._places[place, start:end].view(dtype).view(weight.shape)


def _size(weight: Expandable, itemsize: int) -> int:
    """Bytes that it takes, with what the next begins after."""
    return -(-torch.Size(weight.shape).numel() * itemsize // ALIGNED) * ALIGNED
