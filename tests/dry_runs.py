"""Many dry runs of Snakemake: its own command line, in forks of a process that has it.

Reads a JSON list of ``[arguments, file]`` and writes one of ``[exit status, output]``. ``file`` is
null, or for that dry run alone a module has one more statement and any other file is not there. Two
run at a time, but not where there are such files.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import snakemake.cli


def start(arguments: list[str], output: Path) -> int:
    """Fork a dry run that writes to ``output``; its process."""
    if process := os.fork():
        return process
    file = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    status = 1
    try:
        snakemake.cli.main(["--cores", "2", "--dry-run", *arguments])
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(status)


@contextmanager
def changed(file: str | None) -> Iterator[None]:
    """A module with one more statement, or another file away, for a while."""
    if file is None:
        yield
        return
    path, kept = Path(file), Path(f"{file}.kept")
    path.rename(kept)
    if path.suffix == ".py":
        path.write_text(f"{kept.read_text(encoding='utf-8')}\nEDITED = True\n", encoding="utf-8")
    try:
        yield
    finally:
        kept.rename(path)


def main() -> None:
    requests = json.load(sys.stdin)
    # With all that a rule file needs, once for all.
    import_module("flowquant.config.run")
    at_once = 1 if any(file for _, file in requests) else 2
    statuses: dict[int, int] = {}
    running: dict[int, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, str(index)) for index in range(len(requests))]

        def wait() -> None:
            process, status = os.wait()
            statuses[running.pop(process)] = os.waitstatus_to_exitcode(status)

        for index, (arguments, file) in enumerate(requests):
            with changed(file):
                running[start(arguments, outputs[index])] = index
                while len(running) >= at_once:
                    wait()
        while running:
            wait()
        found = [[statuses[i], path.read_text(encoding="utf-8")] for i, path in enumerate(outputs)]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
