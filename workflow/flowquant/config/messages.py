"""What is wrong with a configuration, as one message: the key, what was found, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from flowquant.config.configuration import Configuration
from flowquant.config.fields import RENAMED
from flowquant.config.schema import allowed, describe, json_schema, node_at, resolve, sections
from flowquant.runtime.errors import UserError

REFERENCE = "config/README.md lists every key."
MOST_SHOWN = 100
UNKNOWN = "unexpected_keyword_argument"


def explain(error: ValidationError, content: Mapping[str, Any]) -> UserError:
    """The first thing wrong, unknown keys before what their absence breaks.

    Args:
        error: What the check of ``content`` raised.
        content: The configuration that was checked.
    """
    problems = error.errors(include_url=False)
    first = next((problem for problem in problems if problem["type"] == UNKNOWN), problems[0])
    # What a section's validator refuses lies where the section does: all else are tags.
    path = _path(first["loc"], content, named_last=first["type"] != "refused")
    if first["type"] == UNKNOWN:
        return _unknown(path, content)
    if first["type"] == "refused":
        parts = first["ctx"]
        return UserError(
            _key([*path, parts["key"]]),
            found=parts["found"],
            expected=parts["expected"],
            remedy=parts["remedy"],
        )
    if first["loc"][-1:] == ("[key]",):
        return UserError(
            _key(path),
            found=f"the name {_shortened(path[-1])}",
            expected=_names_at(path[:-1]),
            remedy="YAML reads numbers, `on`, `off` and `null` as such: put a name in quotes, or "
            "choose another.",
        )
    missing = first["type"] in ("missing", "missing_argument", "union_tag_not_found")
    if first["type"].startswith("union_tag"):
        path = [*path, first["ctx"]["discriminator"].strip("'")]
    value, node = None if missing else _value(path, content), node_at(path, content)
    return UserError(
        _key(path),
        found="nothing" if missing else _shortened(value),
        expected=describe(node),
        remedy=_renamed(value, node) or _number_as_text(value) or REFERENCE,
    )


def explain_arguments(error: ValidationError) -> UserError:
    """The first thing wrong with a section that was made from arguments or options."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "refused":
        parts = first["ctx"]
        return UserError(
            parts["key"],
            found=parts["found"],
            expected=parts["expected"],
            remedy=parts["remedy"],
        )
    node = _node_of(error.title, first["loc"])
    return UserError(
        ".".join(str(part) for part in first["loc"]),
        found=_shortened(first["input"]),
        expected=describe(node) or first["msg"].removeprefix("Input should be "),
        remedy=_renamed(first["input"], node) or REFERENCE,
    )


def _node_of(section: str, location: tuple[Any, ...]) -> dict[str, Any]:
    """The schema of a section's key, or of one made from the section; empty where there is none."""
    for name, kind in sections(Configuration).items():
        if section in [base.__name__ for base in kind.__mro__] and location:
            definition = json_schema()["$defs"].get(name, {})
            return resolve(definition.get("properties", {}).get(str(location[0]), {}), None)
    return {}


def _unknown(path: list[Any], content: Mapping[str, Any]) -> UserError:
    node = node_at(path[:-1], content)
    known = sorted(node.get("properties", {}))
    near = difflib.get_close_matches(str(path[-1]), known, n=1)
    return UserError(
        _key(path),
        found="an unknown key",
        expected=f"one of {', '.join(known)}",
        remedy=f"Did you mean `{near[0]}`?" if near else REFERENCE,
    )


def _names_at(path: list[Any]) -> str:
    node = node_at(path, {})
    if "enum" in node.get("propertyNames", {}):
        return allowed(node["propertyNames"])
    pattern = next(iter(node.get("patternProperties", {"": None})))
    return f"a name of at most 100 characters matching {pattern}, in use for nothing else"


def _key(path: list[Any]) -> str:
    return f"configuration key `{'.'.join(_printed(part) for part in path)}`"


def _printed(part: Any) -> str:
    return str(part) if str(part).isprintable() else repr(part)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def _path(location: tuple[Any, ...], content: Any, named_last: bool) -> list[Any]:
    """A location without what is no key: tags of unions, marks of validators."""
    path: list[Any] = []
    for number, part in enumerate(location):
        last = named_last and number == len(location) - 1
        if part == "[key]":
            continue
        inside = isinstance(content, Mapping) and part in content
        if isinstance(content, list | tuple) and isinstance(part, int):
            inside = part < len(content)
        if inside:
            content = content[part]
        elif not last:
            continue
        path.append(part)
    return path


def _value(path: list[Any], content: Any) -> Any:
    for part in path:
        with suppress(TypeError, KeyError, IndexError):
            content = content[part]
    return content


def _renamed(value: Any, node: Mapping[str, Any]) -> str | None:
    new = node.get(RENAMED, {}).get(value) if isinstance(value, str) else None
    return new and f"`{value}` is called `{new}` now."


def _number_as_text(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    with suppress(ValueError):
        float(value)
        return "YAML reads this as text: write numbers without quotes, and 1.0e-3 for 1e-3."
    return None
