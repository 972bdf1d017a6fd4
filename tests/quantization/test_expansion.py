"""Packed weights that take turns in memory: whose values they are, and what is expanded when."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from flowquant.quantization.expansion import Turns

CPU = torch.device("cpu")


class Constant:
    """A weight of one value, which notes when it is expanded."""

    def __init__(self, value: float, size: int, made: list[float]) -> None:
        self.shape: tuple[int, ...] = (size, 2)
        self.value, self.packed, self.made = value, torch.empty(0), made

    def expand_into(self, out: Tensor) -> None:
        self.made.append(self.value)
        out.fill_(self.value)


class Stream:
    """Of a GPU; notes in whose order it waits."""

    def __init__(self, *_: Any) -> None:
        self.waited: list[Stream] = []

    def wait_stream(self, other: Stream) -> None:
        self.waited.append(other)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Stream:
    """The current stream of a pretended GPU."""
    current = Stream()
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: current)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    return current


def turns(weights: list[Constant]) -> Turns:
    found = Turns(weights, CPU)
    found._aside = torch.cuda.Stream()
    return found


def test_the_next_is_expanded_ahead_from_the_second_evaluation_on(streams: Stream) -> None:
    made: list[float] = []
    weights = [Constant(value, 3 + value, made) for value in range(4)]
    places = turns(weights)
    for evaluation in range(3):
        made.clear()
        before = None
        for weight in weights:
            dense = places.expanded(weight, torch.bfloat16)
            assert dense.shape == weight.shape
            assert (dense == weight.value).all()
            # What is under way has not touched the one before.
            if before is not None:
                assert dense.data_ptr() != before.data_ptr()
            before = dense
            ahead = evaluation > 0 and weight.value < 3
            assert made[-1] == weight.value + ahead
        assert made == [0, 1, 2, 3]
        # Each expansion aside is waited for, and nothing is left under way.
        assert len(streams.waited) == 3 * evaluation
        assert places._ahead is None


def test_another_order_and_type_than_expected_are_right_all_the_same(streams: Stream) -> None:
    made: list[float] = []
    weights = [Constant(value, 4, made) for value in range(3)]
    places = turns(weights)
    for order in ([0, 1, 2], [0, 2], [2, 1, 0], [0, 0, 1]):
        for index in order:
            for dtype in (torch.bfloat16, torch.float8_e4m3fn):
                assert (places.expanded(weights[index], dtype).float() == index).all()


def test_an_evaluation_that_broke_off(streams: Stream) -> None:
    weights = [Constant(value, 4, []) for value in range(3)]
    places = turns(weights)
    for order in ([0, 1], [0, 1, 2], [0], [0, 1, 2]):
        for index in order:
            assert (places.expanded(weights[index], torch.bfloat16) == index).all()


def test_without_a_stream_nothing_is_expanded_ahead() -> None:
    made: list[float] = []
    weights = [Constant(value, 4, made) for value in range(3)]
    places = Turns(weights, CPU)
    for _ in range(2):
        for weight in weights:
            assert (places.expanded(weight, torch.bfloat16) == weight.value).all()
    assert made == [0, 1, 2] * 2
