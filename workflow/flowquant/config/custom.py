"""A network class of the user's own: what it is called, made with and called with."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from flowquant.config.fields import READS, SETTINGS, Natural, OwnClass, Words, refuse

# What a call is made of, besides constants and containers of these.
NAMES = ("x", "t", "y")


def parsed_call(call: str) -> ast.Call:
    """What a network is called with, as Python writes it: ``t, x`` or ``x, timesteps=t``.

    Raises:
        ValueError: if it is no list of arguments, or has more in it than names, constants, lists
            and mappings.
    """
    try:
        tree = ast.parse(f"f({call})", mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise ValueError("no arguments of a call, as Python writes them") from error
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        raise ValueError("more than the arguments of a call")
    for node in _nodes(tree):
        if isinstance(node, ast.Name) and node.id not in NAMES:
            raise ValueError(f"`{node.id}`, which is none of {', '.join(NAMES)}")
        if isinstance(node, ast.keyword) and node.arg is None:
            raise ValueError("`**`")
        if not isinstance(node, ast.Name | ast.Constant | ast.keyword | ast.Dict | ast.List):
            raise ValueError(f"`{ast.unparse(node)}`")
    return tree


def refused_call(call: str) -> dict[str, str] | None:
    """What is wrong with a call, as the parts of a `UserError`; None if it will do."""
    try:
        if {"x", "t"} <= _names(parsed_call(call)):
            return None
        problem = "no `x` or no `t`"
    except ValueError as error:
        problem = str(error)
    return {
        "found": f"{problem} in '{call}'",
        "expected": "arguments as Python writes them, of `x`, `t`, perhaps `y`, constants, lists "
        "and mappings",
        "remedy": 'Write it as `"t, x"` or `"x, timesteps=t, class_labels=y"`.',
    }


def _names(call: ast.Call) -> set[str]:
    return {node.id for node in _nodes(call) if isinstance(node, ast.Name)}


def _nodes(call: ast.Call) -> Iterator[ast.AST]:
    for argument in (*call.args, *call.keywords):
        for node in ast.walk(argument):
            if not isinstance(node, ast.expr_context):
                yield node


def _as_json(value: Any) -> Any:
    """A mapping as the text that stages and files know it by."""
    return json.dumps(value) if isinstance(value, Mapping) else value


def _is_mapping(text: str) -> str:
    if not isinstance(json.loads(text), dict):
        raise ValueError("no mapping")
    return text


def _arguments_schema(schema: dict[str, Any]) -> None:
    """As it is said in YAML, which is not as it is known afterwards."""
    schema |= {"type": "object", READS: "a mapping of names to numbers, text, lists and mappings"}


Arguments = Annotated[
    str,
    AfterValidator(_is_mapping),
    Field(strict=True, json_schema_extra=_arguments_schema),
    BeforeValidator(_as_json),
]


# As a section, with a key that Python has for itself.
@dataclass(frozen=True, kw_only=True, config=ConfigDict(**SETTINGS, populate_by_name=True))
class CustomConfig:
    """A network class of your own (docs/howto/network.md)."""

    family: Literal["custom"]
    """A class of your own."""

    class_: Annotated[OwnClass, Field(alias="class")]
    """The class, or a function that makes the network; a path is taken from the folder that
    Snakemake works in."""

    arguments: Arguments = "{}"
    """What it is made with, by name."""

    call: Words
    """How the network is called, as Python writes it, with ``x``, float32 images [B, C, H, W];
    ``t``, float32 [B], the clock's time; and perhaps ``y``, classes int64 [B] or attributes float32
    [B, A]: ``t, x``, or ``x, timesteps=t, class_labels=y``."""

    null_class: Natural | None = None
    """The class that means none, which condition dropout and guidance put in place of ``y``;
    ``null``: the network cannot do without."""

    middle: Words | None = None
    """The module whose output, [B, N, D] or [B, D, H, W], fidelity looks at for its latents;
    ``null``: the middle one of its linear layers and convolutions."""

    @property
    def condition(self) -> str:
        """How the condition enters, which is the network's own affair, or ``none``."""
        return "own" if "y" in _names(parsed_call(self.call)) else "none"

    @property
    def layers(self) -> int:
        """Layers that a file's weights must be enough for."""
        return 0

    @property
    def cell(self) -> int:
        """Pixels of which an image's side is a multiple."""
        return 1

    @property
    def for_attributes(self) -> str:
        """The ``condition`` to choose where several attributes hold at once."""
        return "own"

    def check_size(self, size: int) -> None:
        """Only the class can tell which images it takes."""

    @model_validator(mode="after")
    def _check(self) -> CustomConfig:
        if (wrong := refused_call(self.call)) is not None:
            refuse("call", **wrong)
        if self.null_class is not None and self.condition == "none":
            refuse(
                "null_class",
                found=f"{self.null_class} for a network that is called without `y`",
                expected="null",
                remedy="Leave it out, or name `y` in `call`.",
            )
        return self
