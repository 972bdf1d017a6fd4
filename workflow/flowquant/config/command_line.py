"""A stage's command line, derived from its one typed function."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from flowquant.runtime.errors import UserError


def run(
    stage: Callable[..., None], command: str = "", arguments: Sequence[str] | None = None
) -> None:
    """Call ``stage`` with the arguments of a command line; a user's mistake ends in one line.

    Every parameter of the function becomes a named option, a dataclass's fields become
    ``--parameter.field``. Exit codes: 0 done, 1 a `UserError`, 2 an unusable command line.

    Args:
        stage: The function.
        command: What it is called, for its help.
        arguments: The command's own arguments; without them, those of this process.
    """
    import tyro

    try:
        tyro.cli(
            stage,
            prog=f"flowquant {command}",
            args=arguments,
            config=(tyro.conf.FlagConversionOff,),
        )
    except UserError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:
        # The reader of our output went away (`… | head`); there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
