"""How modules of others are called for a velocity, and what of their output it is."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from torch import Tensor

from flowquant.config.custom import parsed_call
from flowquant.runtime.errors import UserError

# Of a module, states x [B, …], times t [B], and conditions y [B, …] or None: what it puts out.
Call = Callable[[Callable[..., Any], Tensor, Tensor, Any], Any]


class WrittenCall:
    """A `Call` as Python writes its arguments: ``t, x`` or ``x, timesteps=t``.

    Args:
        call: What `refused_call` finds nothing wrong with.
    """

    def __init__(self, call: str) -> None:
        self._call = parsed_call(call)

    def __call__(self, module: Callable[..., Any], x: Tensor, t: Tensor, y: Any) -> Any:
        given = {"x": x, "t": t, "y": y}
        arguments = [_value(node, given) for node in self._call.args]
        named = {str(word.arg): _value(word.value, given) for word in self._call.keywords}
        return module(*arguments, **named)


def _value(node: ast.expr, given: dict[str, Any]) -> Any:
    """An argument of the call, of which `parsed_call` knows what it may hold."""
    if isinstance(node, ast.Name):
        return given[node.id]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return {_value(key, given): _value(value, given) for key, value in pairs if key is not None}
    if isinstance(node, ast.List):
        return [_value(item, given) for item in node.elts]
    assert isinstance(node, ast.Constant)
    return node.value


def tensor_of(output: Any) -> Tensor:
    """The tensor that a module puts out: itself, its ``sample``, or the first of several.

    Raises:
        UserError: if it is none of these.
    """
    found = getattr(output, "sample", output)
    if isinstance(found, tuple | list) and found:
        found = found[0]
    if not isinstance(found, Tensor):
        raise UserError(
            "the module's output",
            found=f"a {type(output).__name__}",
            expected="a tensor, an object with a tensor `sample`, or a tuple that begins with one",
            remedy="Wrap the module in one that returns the velocity alone.",
        )
    return found
