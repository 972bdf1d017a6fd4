"""Packed weights that take turns in memory: whose values they are, and what is expanded when."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from flowquant.quantization import expansion
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


def test_the_next_are_expanded_ahead_from_the_second_evaluation_on(
    streams: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "TOGETHER", 2 * expansion.ALIGNED)
    made: list[float] = []
    weights = [Constant(value, 3 + value, made) for value in range(6)]
    places = turns(weights)
    # What has been expanded last when each is asked for: the first beside the second, then two at a
    # time.
    ahead = [0, 3, 5, 5, 5, 5]
    for evaluation in range(3):
        made.clear()
        streams.waited.clear()
        for index, weight in enumerate(weights):
            dense = places.expanded(weight, torch.bfloat16)
            assert dense.shape == weight.shape
            # What is under way has not touched what lies here.
            assert (dense == weight.value).all()
            assert made[-1] == (ahead[index] if evaluation else index)
        assert made == ([1, 0, 2, 3, 4, 5] if evaluation else [0, 1, 2, 3, 4, 5])
        # Each group aside is waited for, and nothing is left under way.
        assert len(streams.waited) == 3 * (evaluation > 0)
        assert places._ahead is None


def test_a_weight_larger_than_what_is_expanded_together_has_a_place_to_itself(
    streams: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expansion, "TOGETHER", expansion.ALIGNED)
    made: list[float] = []
    weights = [Constant(value, 1 + 100 * (value == 1), made) for value in range(4)]
    places = turns(weights)
    assert places._places.shape == (2, 512)
    for _ in range(3):
        made.clear()
        for weight in weights:
            assert (places.expanded(weight, torch.bfloat16) == weight.value).all()
    assert made == [1, 0, 2, 3]
    assert [len(group) for group in places._groups] == [1, 1, 2]


def test_weights_that_lie_together_begin_where_fp8_needs_them_to(streams: Stream) -> None:
    weights = [Constant(value, 3, []) for value in range(4)]
    places = turns(weights)
    for _ in range(2):
        for weight in weights:
            found = places.expanded(weight, torch.float8_e4m3fn)
            assert (found.data_ptr() - places._places.data_ptr()) % expansion.ALIGNED == 0
    assert [len(group) for group in places._groups] == [1, 1, 2]


def test_another_order_and_type_than_expected_are_right_all_the_same(streams: Stream) -> None:
    made: list[float] = []
    weights = [Constant(value, 4, made) for value in range(3)]
    places = turns(weights)
    for order in ([0, 1, 2], [0, 2], [2, 1, 0], [0, 0, 1]):
        for index in order:
            for dtype in (torch.bfloat16, torch.float8_e4m3fn):
                assert (places.expanded(weights[index], dtype).float() == index).all()


def test_an_evaluation_in_other_types_leaves_nothing_under_way(streams: Stream) -> None:
    """As one of few tokens, which FP8 is not for: what is captured after it is to be whole."""
    made: list[float] = []
    weights = [Constant(value, 4, made) for value in range(5)]
    places = turns(weights)
    for dtype in (torch.float8_e4m3fn, torch.bfloat16) * 2:
        for evaluation in range(3):
            made.clear()
            for weight in weights:
                own = torch.bfloat16 if weight.value == 0 else dtype
                assert (places.expanded(weight, own).float() == weight.value).all()
            assert places._ahead is None
            if evaluation:
                assert made == [1, 0, 2, 3, 4]


def test_an_evaluation_that_broke_off(streams: Stream) -> None:
    """What it did not come to is learnt by the next one."""
    made: list[float] = []
    weights = [Constant(value, 4, made) for value in range(3)]
    places = turns(weights)
    for order in ([0, 1], [0, 1, 2], [0], [0, 1, 2]):
        made.clear()
        for index in order:
            assert (places.expanded(weights[index], torch.bfloat16) == index).all()
    assert made == [1, 0, 2]
    assert [len(group) for group in places._groups] == [1, 1, 1]


def test_without_a_stream_nothing_is_expanded_ahead() -> None:
    made: list[float] = []
    weights = [Constant(value, 4, made) for value in range(3)]
    places = Turns(weights, CPU)
    for _ in range(2):
        for weight in weights:
            assert (places.expanded(weight, torch.bfloat16) == weight.value).all()
    assert made == [0, 1, 2] * 2


def test_the_papers_network_is_expanded_by_twos_and_threes() -> None:
    """10 layers of 384 channels and 2048 hidden ones, after what makes tokens of patches."""
    layer = [(1152, 384), (384, 384), (2048, 384), (384, 2048)]
    shapes = [(384, 16), *layer * 10, (16, 384)]
    weights = [Constant(value, 0, []) for value in range(len(shapes))]
    for weight, shape in zip(weights, shapes, strict=True):
        weight.shape = shape
    places = Turns(weights, CPU)
    for _ in range(2):
        for weight in weights:
            places.expanded(weight, torch.bfloat16)
    counts = [len(group) for group in places._groups]
    assert counts == [1, 1, 2, 3, 2, *[3, 3, 2] * 4, 1]
    assert places._places.numel() == 2 * 2 * 2 * 384 * 2048
