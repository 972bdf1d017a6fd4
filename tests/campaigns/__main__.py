"""The campaigns, by hand: `make campaign`, or `python -m campaigns --help` for a part of them.

One process imports all that stages import, makes the tiny run, and forks for each trial.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from campaigns import configurations, inputs, kills, workflow_kills
from campaigns.outcome import Outcome, table
from campaigns.reference import Reference
from flowquant.runtime import own_code
from flowquant.runtime.digest import commands, module_of

Trials = Callable[[Reference, int, int, int, int], Iterator[Outcome]]


def main() -> None:
    """Make the tiny run, share the trials among processes, and print what they found."""
    parser = argparse.ArgumentParser(prog="python -m campaigns", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--workflow-kills", type=int, default=60)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--configurations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", default="", help="stages whose name starts so")
    parser.add_argument("--folder", type=Path, help="where to work; what failed stays there")
    given = parser.parse_args()
    # A shell that runs this in the background has it ignored, here and in what this starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    own_code.allow(["own_net:Net"])
    folder = given.folder or Path(tempfile.mkdtemp(prefix="campaign-"))
    # Children import it by name.
    sys.modules.setdefault("campaigns.__main__", sys.modules["__main__"])
    for command in commands():
        importlib.import_module(f"flowquant.{module_of(command)}")
    began = time.monotonic()
    reference = Reference(folder.resolve())
    reference.make()
    print(f"{len(reference.commands)} commands, {time.monotonic() - began:.0f} s", flush=True)
    reference.commands = [c for c in reference.commands if c.name.startswith(given.only)]
    failed = 0
    for name, trials, count in (
        ("kills", kills.trials, given.kills),
        ("workflow_kills", workflow_kills.trials, given.workflow_kills),
        ("inputs", inputs.trials, given.inputs),
        ("configurations", configurations.trials, given.configurations),
    ):
        began = time.monotonic()
        found = shared(reference, trials, count, given.seed, given.processes, folder / name)
        print(f"\n## {name}: {len(found)} trials, {time.monotonic() - began:.0f} s\n")
        print(table(found), flush=True)
        failed += sum(bool(outcome.problems) for outcome in found)
    sys.exit(f"{failed} trials failed; their folders are in {folder}" if failed else 0)


def shared(
    reference: Reference, trials: Trials, count: int, seed: int, processes: int, log: Path
) -> list[Outcome]:
    """What ``processes`` forks of this process find, each in its part of the trials."""
    sys.stdout.flush()
    pids = []
    for part in range(processes):
        if (pid := os.fork()) == 0:
            code = 1
            try:
                with log.with_suffix(f".{part}.jsonl").open("w") as file:
                    for outcome in trials(reference, count, seed, part, processes):
                        file.write(json.dumps(asdict(outcome)) + "\n")
                        file.flush()
                code = 0
            finally:
                if code:
                    import traceback

                    traceback.print_exc()
                os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert not any(codes), codes
    return [
        Outcome(**json.loads(line))
        for part in range(processes)
        for line in log.with_suffix(f".{part}.jsonl").read_text().splitlines()
    ]


if __name__ == "__main__":
    main()
