"""Settings as a stage's options, and a stage's one typed function called with them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from flowquant.runtime import interrupt
from flowquant.runtime.errors import UserError


def options(name: str, kind: type, *sections: object) -> list[str]:
    """Settings as words of a command line, ``--name.key=value``; `run` turns them back.

    Args:
        name: The parameter of the stage's function that takes them; without one, the fields are
            parameters themselves.
        kind: Its type, a dataclass: only what it has becomes an option.
        sections: Where the values are; the first section that has a field gives it.
    """
    words: list[str] = []
    for field in fields(kind):
        section = next(section for section in sections if hasattr(section, field.name))
        words += _words(f"{name}.{field.name}".strip("."), getattr(section, field.name))
    return words


def _words(name: str, value: Any) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if is_dataclass(value):
        return options(name, type(value), value)
    if isinstance(value, list | tuple):
        return [option, *map(str, value)]
    return [f"{option}={value}"]


def run(
    stage: Callable[..., None], command: str = "", arguments: Sequence[str] | None = None
) -> None:
    """Call ``stage`` with the arguments of a command line; a user's mistake ends in one line.

    Every parameter of the function becomes a named option, a dataclass's fields become
    ``--parameter.field``. Exit codes: 0 done, 1 a `UserError`, 2 an unusable command line, 130
    interrupted.

    Args:
        stage: The function.
        command: What it is called, for its help.
        arguments: The command's own arguments; without them, those of this process.
    """
    interrupt.at_work(command or "flowquant")
    try:
        import tyro

        tyro.cli(
            stage,
            prog=f"flowquant {command}",
            args=arguments,
            config=(tyro.conf.FlagConversionOff,),
        )
        interrupt.done()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or interrupt.asked():
            interrupt.leave(str(error) if isinstance(error, KeyboardInterrupt) else "")
        if isinstance(error, UserError):
            sys.exit(f"error: {error}")
        if not isinstance(error, BrokenPipeError):
            raise
        # The reader of our output went away (`… | head`); there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
