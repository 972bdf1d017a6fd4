"""Settings as a stage's options, and a stage's one typed function called with them."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, wraps
from itertools import chain
from pathlib import Path
from typing import Any, get_args, get_type_hints

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
    kinds = _kinds(kind)
    for field in fields(kind):
        section = next(section for section in sections if hasattr(section, field.name))
        option, value = f"{name}.{field.name}".strip("."), getattr(section, field.name)
        if sum(map(is_dataclass, get_args(kinds[field.name]))) > 1:
            words.append(f"{option}:{_hyphenated(type(value).__name__)}".replace("_", "-"))
        words += _words(option, value)
    return words


# For thousands of jobs.
_kinds = cache(get_type_hints)


def _hyphenated(name: str) -> str:
    """A class's name as tyro writes it: `UnetConfig` is ``unet-config``."""
    return re.sub("(?<!^)(?=[A-Z])", "-", name).lower()


def _words(name: str, value: Any) -> list[str]:
    # As tyro has it: `class_` keeps its last sign.
    option = "--" + re.sub(r"_(?!$|\.)", "-", name)
    if is_dataclass(value):
        return options(name, type(value), value)
    if isinstance(value, list | tuple):
        rows = (item if isinstance(item, list | tuple) else (item,) for item in value)
        return [option, *map(str, chain.from_iterable(rows))]
    return [f"{option}={value}"]


def _careful(stage: Callable[..., None], command: str) -> Callable[..., None]:
    """The stage, which opens no pipes and devices, and what a machine lacks as a `UserError`."""

    # Not to list the commands.
    from flowquant.runtime.files import regular

    @wraps(stage)
    def called(*arguments: Any, **named: Any) -> None:
        try:
            for value in (*arguments, *named.values()):
                for path in value if isinstance(value, tuple) else (value,):
                    if isinstance(path, Path):
                        regular(path, or_folder=True)
            stage(*arguments, **named)
        except BrokenPipeError:
            raise
        except (OSError, MemoryError, RuntimeError) as error:
            if (problem := _lacking(command, error)) is None:
                raise
            raise problem from error

    return called


def _lacking(command: str, error: Exception) -> UserError | None:
    """What the machine's refusal of memory or of a file means to a user; None for other errors."""
    reason = str(error).partition("\n")[0]
    # PyTorch's own exceptions, which are not imported for this.
    full = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in reason
    if full or isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return UserError(
            command or "flowquant",
            found=f"too little memory ({reason or type(error).__name__})",
            expected="room for its work",
            remedy="Lower `batch` in the section of this stage, end what else runs there, or use a "
            "device with more memory.",
        )
    if isinstance(error, OSError) and error.errno is not None:
        return UserError(
            error.filename or command or "flowquant",
            found=f"'{error.strerror}', said by the system",
            expected="a file or folder that can be read or written",
            remedy="Check the path, its permissions and the disk.",
        )
    return None


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
    interrupt.at_work(command or "flowquant")
    try:
        import tyro

        tyro.cli(
            _careful(stage, command),
            prog=f"flowquant {command}",
            args=arguments,
            # A word that says a kind may stand anywhere among the options.
            config=(tyro.conf.FlagConversionOff, tyro.conf.CascadeSubcommandArgs),
        )
        interrupt.done()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) or interrupt.asked():
            interrupt.leave(str(error) if isinstance(error, KeyboardInterrupt) else "")
        if isinstance(error, UserError):
            sys.exit(f"error: {error}")
        if isinstance(error, SystemExit):
            raise
        from pydantic import ValidationError

        from flowquant.config.messages import explain_arguments

        if isinstance(error, ValidationError):
            sys.exit(f"error: {explain_arguments(error)}")
        if not isinstance(error, BrokenPipeError):
            raise
        # The reader of our output went away (`… | head`); there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
