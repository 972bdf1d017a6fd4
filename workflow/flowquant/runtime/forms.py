"""JSON that was read, against the type that it must fit: one message for the first thing wrong."""

import json
import math
from collections.abc import Hashable
from functools import cache
from typing import Any, NoReturn, TypeVar, cast

from flowquant.runtime.errors import UserError

T = TypeVar("T")
MOST_SHOWN = 60


def parse_json(text: str) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: if it is no JSON, holds NaN or a number beyond float64, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("brackets nested too deeply") from None


def fit(where: object, form: type[T], content: Any, *, expected: str, remedy: str) -> T:
    """Content of a JSON file as a type says it, a dataclass above all; keys it lacks are let be.

    Types are strict: true is no 1, and "1" neither. Integers are floats where these are asked for.

    Args:
        where: The file, for the message.
        form: What pydantic can check: a dataclass, a mapping, a section of the configuration.
        content: What `parse_json` gave.
        expected: What the file should be, for the message.
        remedy: What to do if it is not.

    Raises:
        UserError: naming the first key that is missing or does not fit.
    """
    from pydantic import ValidationError

    try:
        # As JSON, where a list may be a tuple, and a mapping a dataclass.
        fitting: T = _adapter(cast(Hashable, form)).validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    else:
        return fitting
    key = ".".join(map(str, first["loc"]))
    found = f"{_shortened(first['input'])} for `{key}`: {first['msg']}" if key else first["msg"]
    if first["type"] in ("missing", "missing_argument"):
        found = f"no `{key}`"
    raise UserError(where, found=found, expected=expected, remedy=remedy)


@cache
def _adapter(form: Hashable) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(form)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def _finite(text: str) -> float:
    return number if math.isfinite(number := float(text)) else _no_number(text)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:MOST_SHOWN]}, which is no finite number")
