"""A rule's shell command: a stage's command line in which every field is quoted.

A configuration's strings reach a shell only through here, so none is ever run.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

from flowquant.runtime.interrupt import FOR

# A cluster that ends a job tells all its processes (SIGTERM), and so does a terminal (SIGINT): the
# shell waits for the stage, which may have a state to keep, and `tee` for what the stage says;
# without `tee`, saying it kills it. The stage too ignores SIGINT until it can say something.
LAST_WORDS = """trap : TERM; trap "" INT; tee() { ( trap "" TERM; exec tee "$@" ); }; """
LAST_WORDS += f"export {FOR}=$PPID; "
# `python -m flowquant`, or where there is a warm process its client (`flowquant.runtime.warm`).
START = 'python "${FLOWQUANT_CLIENT:--m}" flowquant'
FIELD = re.compile(r"\{([a-z][\w.]*)\}")


class Shell:
    """Commands of stages, for the shell of this workflow.

    A command is part of what makes a job stale, so it names nothing that differs from one checkout
    or environment to the next: the package by its path from here, the interpreter's folder by the
    variable ``FLOWQUANT_BIN``, which jobs inherit.

    Args:
        package: Folder of the package ``flowquant``, where it need not be installed.
        own_environment: Whether Snakemake makes an environment for each rule; else stages run by
            the interpreter that runs Snakemake.
    """

    def __init__(self, package: Path, own_environment: bool) -> None:
        here = Path.cwd()
        path = package.relative_to(here) if package.is_relative_to(here) else package
        words = [f"export PYTHONPATH={shlex.quote(str(path))}${{PYTHONPATH:+:$PYTHONPATH}}; "]
        self._paths, self._own_environment = str(path), own_environment
        if not own_environment:
            os.environ["FLOWQUANT_BIN"] = str(Path(sys.executable).parent)
            words.append('export PATH="$FLOWQUANT_BIN:$PATH"; ')
        self._prefix = _unformatted(LAST_WORDS + "".join(words))

    @property
    def environment(self) -> dict[str, str] | None:
        """What stages' commands have, where the interpreter that runs Snakemake runs them."""
        if self._own_environment:
            return None
        paths = filter(None, (self._paths, os.environ.get("PYTHONPATH")))
        return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def stage(self, command: str, arguments: str, follow: bool = False) -> str:
        """A rule's ``shell`` for a stage.

        Args:
            command: The stage.
            arguments: Its arguments, with Snakemake's fields, such as ``{input.model}``. A list in
                ``params`` becomes a word for each item. No field is quoted twice or not at all.
            follow: Whether what it prints is shown as well as logged, for stages that take long.
        """
        log = "2>&1 | tee {log}" if follow else "2> {log}"
        fields = FIELD.sub(r"{\1:q}", f"{command} {arguments} {log}")
        return f"{self._prefix}{_unformatted(START)} {fields}"


def _unformatted(text: str) -> str:
    """Text as Snakemake leaves it, which takes single braces for fields."""
    return text.replace("{", "{{").replace("}", "}}")
