"""``flowquant COMMAND …``, ``python -m flowquant COMMAND …``: every stage's command line."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from flowquant.config.command_line import run
from flowquant.runtime import interrupt
from flowquant.runtime.digest import commands, module_of, source


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name; without one, or with ``--help``, list them all."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["--serve"]:
        from flowquant.runtime.server import serve

        serve(int(given[1]), _load, main, given[2:])
    if command := _command(given):
        interrupt.prepare(command)
        return run(_load(given), command, given[len(command.split()) :])
    if given and given[0] not in ("-h", "--help"):
        sys.exit(
            f"error: command: found '{' '.join(given[:2])}'; expected one of "
            f"{', '.join(commands())}. `flowquant --help` says what each does."
        )
    print(_overview())
    return None


def _command(given: Sequence[str]) -> str:
    """The command at the beginning of the arguments; empty if there is none."""
    names = (" ".join(given[:words]) for words in (1, 2) if len(given) >= words)
    return next((name for name in names if name in commands()), "")


def _load(given: Sequence[str]) -> Callable[..., None]:
    """The function of the arguments' command, imported."""
    command = _command(given)
    module = import_module(f"flowquant.{module_of(command)}")
    stage: Callable[..., None] = getattr(module, command.split()[-1])
    return stage


def _overview() -> str:
    """The commands with a sentence each, read without importing what they need."""
    width = max(map(len, commands()))
    rows = [f"  {command:{width}}  {_sentence(command)}" for command in commands()]
    usage = "usage: flowquant COMMAND [OPTION ...]    (flowquant COMMAND --help: its options)"
    return "\n".join([usage, "", *rows])


def _sentence(command: str) -> str:
    tree = ast.parse(source(module_of(command)).read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


if __name__ == "__main__":
    main()
