"""Settings as a stage's options, and a stage's one typed function called with them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

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
    kinds = get_type_hints(kind)
    for field in fields(kind):
        section = next(section for section in sections if hasattr(section, field.name))
        option, value = f"{name}.{field.name}".strip("."), getattr(section, field.name)
        if sum(map(is_dataclass, get_args(kinds[field.name]))) > 1:
            words.append(f"{option}:{_hyphenated(type(value).__name__)}".replace("_", "-"))
        words += _words(option, value)
    return words


def _hyphenated(name: str) -> str:
    """A class's name as tyro writes it: `UnetConfig` is ``unet-config``."""
    return re.sub("(?<!^)(?=[A-Z])", "-", name).lower()


def _words(name: str, value: Any) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if is_dataclass(value):
        return options(name, type(value), value)
    if isinstance(value, list | tuple):
        return [option, *map(str, value)]
    return [f"{option}={value}"]


def interrupted(command: str) -> int:
    """Say that a command was interrupted, in one line; the exit code of SIGINT."""
    print(f"interrupted: {command or 'flowquant'}", file=sys.stderr)
    return 130


def run(
    stage: Callable[..., None], command: str = "", arguments: Sequence[str] | None = None
) -> None:
    """Call ``stage`` with the arguments of a command line; a user's mistake ends in one line.

    Every parameter of the function becomes a named option, a dataclass's fields become
    ``--parameter.field``; a field that may be of several kinds is preceded by the word
    ``parameter.field:kind``. Exit codes: 0 done, 1 a `UserError`, 2 an unusable command line, 130
    interrupted.

    Args:
        stage: The function.
        command: What it is called, for its help.
        arguments: The command's own arguments; without them, those of this process.
    """
    import tyro
    from pydantic import ValidationError

    from flowquant.config.messages import explain_arguments

    try:
        tyro.cli(
            stage,
            prog=f"flowquant {command}",
            args=arguments,
            # A word that says a kind may stand anywhere among the options.
            config=(tyro.conf.FlagConversionOff, tyro.conf.CascadeSubcommandArgs),
        )
    except UserError as error:
        sys.exit(f"error: {error}")
    except ValidationError as error:
        sys.exit(f"error: {explain_arguments(error)}")
    except KeyboardInterrupt:
        sys.exit(interrupted(command))
    except BrokenPipeError:
        # The reader of our output went away (`… | head`); there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
