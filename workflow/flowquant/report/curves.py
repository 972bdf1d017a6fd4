"""Curves of loss that training and refinement left as JSON lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flowquant.report.tables import REMEDY, read_json_lines
from flowquant.runtime.forms import fit


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """A line of `train`'s curve."""

    epoch: int
    train_loss: float
    validation_loss: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """A line of `refine`'s curve: the mean loss of the steps since the line before."""

    step: int
    loss: float


Line = TypeVar("Line", Epoch, Step)


def read_curve(path: Path, form: type[Line]) -> list[Line]:
    """The lines of a curve.

    Raises:
        UserError: if the file is unreadable or a line is of another form.
    """
    expected = f"a {form.__name__.lower()} with its loss"
    return [
        fit(where, form, content, expected=expected, remedy=REMEDY)
        for where, content in read_json_lines(path, expected)
    ]


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """Means over so many neighbours, fewer at the ends, each about its own value."""
    half = window // 2
    return [
        sum(part) / len(part)
        for index in range(len(values))
        if (part := values[max(0, index - half) : index + half + 1])
    ]
