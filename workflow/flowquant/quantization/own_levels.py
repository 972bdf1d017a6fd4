"""Levels by a function of the user's own, held against what a quantizer is."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from flowquant.runtime.errors import UserError
from flowquant.runtime.own_code import load, reason

# What a function is tried on before anything is trained: groups, values, levels.
TRIAL = (3, 64, 4)


def own_quantizer(name: str) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    """A quantizer as `quantization.levels` has them, by the function that ``name`` names.

    The function takes ``values`` float32 [G, n], which it leaves as they are, and the number of
    levels K, and returns ``levels`` [G, L], L ≤ K, in any order, and whole ``indices`` [G, n] into
    them. Values may lie on a GPU. What it raises, and what is no quantization, becomes a
    `UserError` on each call.

    Raises:
        UserError: if there is no such function.
    """
    where = f"levels '{name}'"
    function = load(where, name)

    def quantizer(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
        try:
            found = function(values, count)
        except Exception as error:
            raise UserError(
                where,
                found=f"{reason(error, name.rpartition(':')[0])}, for values {list(values.shape)} "
                f"and {count} levels",
                expected="levels and indices",
                remedy="Correct the function.",
            ) from error
        if problem := next(_problems(found, values, count), None):
            raise UserError(
                where,
                found=f"{problem}, for values {list(values.shape)} and {count} levels",
                expected=f"finite levels float [{len(values)}, at most {count}] and whole indices "
                f"{list(values.shape)} below their number, on the values' device",
                remedy="Correct the function.",
            )
        levels, indices = found
        levels, order = levels.to(values.dtype).sort(dim=1, stable=True)
        return levels, order.argsort(dim=1).gather(1, indices.long()).int()

    return quantizer


def try_out(name: str) -> None:
    """Call the function once, on random values.

    Raises:
        UserError: as `own_quantizer` and what it makes.
    """
    groups, size, count = TRIAL
    values = torch.randn(groups, size, generator=torch.Generator().manual_seed(0))
    own_quantizer(name)(values, count)


def _problems(found: Any, values: Tensor, count: int) -> Iterator[str]:
    """What is wrong with what a function returned; only the first is sure to be."""
    pair = found if isinstance(found, tuple | list) else ()
    if len(pair) != 2 or not all(isinstance(part, Tensor) for part in pair):
        yield f"a {type(found).__name__} that is no pair of tensors"
    levels, indices = pair
    whole = not (indices.is_floating_point() or indices.is_complex() or indices.dtype == torch.bool)
    if not levels.is_floating_point() or not whole:
        yield f"levels {levels.dtype} and indices {indices.dtype}".replace("torch.", "")
    if levels.dim() != 2 or len(levels) != len(values) or not 0 < levels.shape[1] <= count:
        yield f"levels {list(levels.shape)}"
    if indices.shape != values.shape:
        yield f"indices {list(indices.shape)}"
    if {levels.device, indices.device} != {values.device}:
        yield f"levels on {levels.device} and indices on {indices.device}"
    if not levels.isfinite().all():
        yield "levels that are NaN or infinite"
    low, high = (int(bound) for bound in indices.aminmax())
    if low < 0 or high >= levels.shape[1]:
        yield f"indices {low} to {high} into {levels.shape[1]} levels"
