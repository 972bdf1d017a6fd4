"""Mixed precision: a width for each tensor, for least distortion within a budget of bits."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from flowquant.config.fields import Rate
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.files import read_json


@dataclass(frozen=True)
class Option:
    """One width of one tensor: the stored bits it takes, and the distortion it causes."""

    width: float
    stored_bits: int
    distortion: float


@dataclass(frozen=True)
class MeasuredWidth:
    """One width of one tensor, as `sensitivity` measured it."""

    width: Rate
    stored_bits: Annotated[int, Field(ge=1)]
    velocity_error: float


@dataclass(frozen=True)
class MeasuredTensor:
    """How many values a tensor has, and what each width would do to it."""

    values: Annotated[int, Field(ge=1)]
    options: Annotated[list[MeasuredWidth], Field(min_length=1)]


@dataclass(frozen=True)
class Sensitivity:
    """What `sensitivity` wrote."""

    dataset: str
    parameters: Annotated[int, Field(ge=1)]
    fixed_bits: Annotated[int, Field(ge=0)]
    tensors: dict[str, MeasuredTensor]


@dataclass(frozen=True)
class AllottedWidth:
    """The width that a tensor was given."""

    width: Rate


@dataclass(frozen=True)
class Allocation:
    """What `allocate` wrote."""

    dataset: str
    variant: str
    budget: float
    effective_bits: float
    tensors: dict[str, AllottedWidth]


def worthwhile(options: Iterable[Option]) -> list[Option]:
    """The options on the lower convex hull of distortion over stored bits, cheapest first.

    Along the hull each step saves more distortion per bit than the next, so a greedy allocation
    over the hulls is optimal for every budget that it uses up exactly.
    """
    hull: list[Option] = []
    for option in sorted(options, key=lambda o: (o.stored_bits, o.distortion)):
        if hull and option.distortion >= hull[-1].distortion:
            continue
        while len(hull) > 1 and _gain(hull[-2], hull[-1]) <= _gain(hull[-2], option):
            hull.pop()
        hull.append(option)
    return hull


def _gain(less: Option, more: Option) -> float:
    """Distortion saved by each additional bit."""
    return (less.distortion - more.distortion) / max(1, more.stored_bits - less.stored_bits)


def choose_widths(
    options: Mapping[str, Iterable[Option]], fixed_bits: int, parameters: int, budget: float
) -> dict[str, Option]:
    """Choose an option for each tensor, greedily by distortion saved per bit.

    ``budget`` is the most effective bits per parameter, over the whole model; ``fixed_bits`` are
    what the rest of the model takes in all.

    Raises:
        UserError: if even the smallest widths exceed the budget; names the least possible.
    """
    hulls = {name: worthwhile(choices) for name, choices in options.items()}
    chosen = dict.fromkeys(hulls, 0)
    spent = fixed_bits + sum(hull[0].stored_bits for hull in hulls.values())
    if spent > budget * parameters:
        raise UserError(
            "budget",
            found=f"{budget:g} effective bits",
            expected=f"at least {spent / parameters:.3f}, the least possible for this model and "
            "method (every tensor at its smallest width)",
            remedy="Raise `budget`, store floats and levels as float16, or use a coarser "
            "`granularity`.",
        )
    pending = set(hulls)
    while pending:
        steps = {
            name: (hulls[name][chosen[name]], hulls[name][chosen[name] + 1])
            for name in sorted(pending)
            if chosen[name] + 1 < len(hulls[name])
        }
        if not steps:
            break
        name = max(steps, key=lambda n: _gain(*steps[n]))
        more = steps[name][1].stored_bits - steps[name][0].stored_bits
        if spent + more <= budget * parameters:
            chosen[name] += 1
            spent += more
        else:
            # A tensor whose next step does not fit is done; smaller ones may still fit.
            pending.discard(name)
        pending &= steps.keys()
    return {name: hulls[name][index] for name, index in chosen.items()}


def read_allocation(path: Path, names: Iterable[str]) -> dict[str, float]:
    """The width of each tensor in a file that the stage `allocate` wrote.

    Raises:
        UserError: if the file is unreadable or is about other tensors than ``names``.
    """
    widths = {name: entry.width for name, entry in read_json(path, Allocation).tensors.items()}
    if differing := set(names) ^ set(widths):
        raise UserError(
            path,
            found=f"widths that do not match the method's tensors: {some(sorted(differing))}",
            expected="a width for each tensor that the method quantizes",
            remedy="Delete the file and run the workflow again.",
        )
    return widths
