"""What the sections of a configuration are made of: checked dataclasses and types of fields.

A field's type, range and default stand in its annotation, its sentence in the string below it.
The schema, the tables of config/README.md and every ``--help`` come from there.
"""

from __future__ import annotations

from typing import Annotated, Any, NoReturn, TypeVar, dataclass_transform

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

Class = TypeVar("Class")

SETTINGS = ConfigDict(extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
def section(cls: type[Class]) -> type[Class]:
    """A section of the configuration: a frozen dataclass that checks what it is given.

    Raises:
        pydantic.ValidationError: when made with an unknown key, a wrong type or a value that is
            out of range; `flowquant.config.messages.explain` makes a `UserError` of it.
    """
    return dataclass(frozen=True, kw_only=True, config=SETTINGS)(cls)  # type: ignore[return-value]


def refuse(key: str, *, found: object, expected: str, remedy: str) -> NoReturn:
    """In a section's validator: refuse a combination of values, with `UserError`'s four parts.

    Args:
        key: The key at fault, from the section on; with ``/`` in front, from the top.
        found: What stands there.
        expected: What should stand there.
        remedy: What to do about it.
    """
    parts = {"key": key, "found": str(found), "expected": expected, "remedy": remedy}
    raise PydanticCustomError("refused", "found {found}; expected {expected}", parts)


def check_shares(batch: int, devices: int) -> None:
    """In a section's validator: refuse ``devices`` that cannot share a batch alike."""
    if batch % devices:
        refuse(
            "devices",
            found=devices,
            expected=f"a divisor of the batch {batch}",
            remedy="Choose `batch` and `devices` so that all devices take the same share.",
        )


def _integral(value: Any) -> Any:
    """2.0, as YAML and JSON may say it, is 2; true is no 1."""
    if isinstance(value, bool):
        return str(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plain(value: float) -> float:
    """A whole number as one, so that files and names say 2 of 2.0."""
    return int(value) if value == int(value) else value


def _each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("twice", "each once")
    return values


WHOLE = BeforeValidator(_integral)
EACH_ONCE = AfterValidator(_each_once)
# How a restriction that JSON schema has no word for is put to readers.
READS = "x-reads"
# The kind of section that is meant where none is said.
DEFAULT_TAG = "x-default"
# Values by the names that they had before.
RENAMED = "x-renamed"


# Beyond what any setting means, and within what every type holds.
MOST = 10**9


def number(**bounds: Any) -> Any:
    """A field's bounds, by pydantic's names; booleans and words are no numbers."""
    upper: dict[str, Any] = {} if {"lt", "le"} & bounds.keys() else {"le": MOST}
    return Field(strict=True, allow_inf_nan=False, **bounds, **upper)


def whole(**bounds: Any) -> Any:
    """A whole number's bounds."""
    upper: dict[str, Any] = {} if {"lt", "le"} & bounds.keys() else {"le": MOST}
    return Field(strict=True, **bounds, **upper)


Natural = Annotated[int, whole(ge=0), WHOLE]
Count = Annotated[int, whole(ge=1), WHOLE]
Positive = Annotated[float, number(gt=0)]
NonNegative = Annotated[float, number(ge=0)]
Probability = Annotated[float, number(ge=0, le=1)]
Flag = Annotated[bool, Field(strict=True)]


def _text(reads: str, pattern: str) -> Any:
    return Field(strict=True, pattern=pattern, json_schema_extra={READS: reads})


# No control characters, which file systems and logs choke on.
Text = Annotated[str, _text("text of one line", r"^[^\x00-\x1f\x7f]*$")]
Words = Annotated[str, _text("text of one line, not empty", r"^[^\x00-\x1f\x7f]+$")]
# An item of a list on a command line, where a dash would begin an option.
Item = Annotated[
    str,
    _text(
        "text of one line that does not begin with a dash",
        r"^[^-\x00-\x1f\x7f][^\x00-\x1f\x7f]*$",
    ),
]
# Code of the user's own: a file or a module, and after the last colon what of it.
OWN = r"[^-:\x00-\x1f\x7f][^:\x00-\x1f\x7f]*:[A-Za-z_][A-Za-z0-9_.]*"
OWN_READS = "`path/to/file.py:{0}` or `package.module:{0}`"
OwnClass = Annotated[str, _text(OWN_READS.format("MyNet"), f"^{OWN}$")]
OwnFunction = Annotated[str, _text(OWN_READS.format("my_levels"), f"^{OWN}$")]
Url = Annotated[str, _text("an http, https or file URL", r"^(https?|file)://[^\s\x00-\x1f\x7f]+$")]
Sha256 = Annotated[str, _text("64 hexadecimal digits, in small letters", "^[0-9a-f]{64}$")]
Bits = Annotated[int, whole(ge=1, le=16), WHOLE]
Widths = Annotated[tuple[Bits, ...], Field(min_length=1), EACH_ONCE]
# Bits a value: those of an index, or where it stands for several values its share of them.
Rate = Annotated[float, number(gt=0, le=16), AfterValidator(plain)]
Rates = Annotated[tuple[Rate, ...], Field(min_length=1), EACH_ONCE]
