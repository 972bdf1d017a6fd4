"""Random kills: a stage is killed at a random time, run again, and must end as if nothing was."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

from campaigns.outcome import Outcome
from campaigns.reference import Command, Reference, digest, folders, made, spoken
from campaigns.trial import Ending, Kill, run

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# A state kept on SIGTERM; asked to stop by a terminal.
ENDS = {signal.SIGKILL: (-9,), signal.SIGTERM: (-15, 143), signal.SIGINT: (130,)}
# One in so many is a new interpreter, as a user starts it.
COLD = 10
# What Python needs to start and to import a stage, about.
START = 3.0


def trials(reference: Reference, count: int, seed: int, part: int, parts: int) -> Iterator[Outcome]:
    """Kill stages, all of them equally often; one of ``parts`` that share the trials."""
    for number in range(part, count, parts):
        rng = random.Random(f"{seed} {number}")
        command = reference.commands[number // len(SIGNALS) % len(reference.commands)]
        number_of = SIGNALS[number % len(SIGNALS)]
        cold = rng.randrange(COLD) == 0
        longest = (START if cold else 0) + 1.05 * command.seconds
        alone = number_of is not signal.SIGINT and rng.random() < 0.25
        kill = Kill(number_of, rng.uniform(0, longest), alone)
        found = _trial(reference, command, kill, cold)
        found.number = number
        yield found


def _trial(reference: Reference, command: Command, kill: Kill, cold: bool) -> Outcome:
    folder = reference.fresh(command)
    words = spoken(command, folder)
    ending = run(folder, words, kill, cold)
    what = kill.number.name + (" alone" if kill.alone else "") + (" cold" if cold else "")
    found = Outcome(command.stage, what, "late" if ending.late else "killed", where=folder.name)
    found.seconds = ending.seconds
    problems = found.problems
    _judge_kill(folder, command, kill, ending, problems)
    again = run(folder, words)
    found.seconds = max(found.seconds, again.seconds)
    if again.code:
        problems["again"] = f"exit {again.code}: {again.said.strip()[-300:]}"
    if again.traceback:
        problems["traceback again"] = again.traceback
    after = {path: digest(folder / path) for path in made(folder, command)}
    for path, expected in command.outputs.items():
        if after.get(path) != expected:
            problems["differing"] = path
    if left := _left(folder, command, states=[]):
        problems["left for ever"] = left
    if not problems:
        reference.drop(folder)
    return found


def _judge_kill(
    folder: Path, command: Command, kill: Kill, ending: Ending, problems: dict[str, str]
) -> None:
    if ending.timed_out:
        problems["hangs"] = f"it went on for {ending.seconds:.0f} s"
    expected = (0,) if ending.late else (*ENDS[kill.number], 0)
    if ending.code not in expected:
        problems["exit"] = f"{ending.code} after {kill.after:.3f} s: {ending.said[-200:]}"
    if ending.traceback:
        problems["traceback"] = ending.traceback
    if kill.number is signal.SIGINT and ending.code == 130:
        # A bar may stand in its line.
        lines = [line for line in ending.said.splitlines() if "interrupted: " in line]
        if len(lines) != 1:
            problems["message"] = ending.said[-200:]
    if ending.survivors:
        problems["survivors"] = f"{ending.survivors} after {kill.after:.3f} s"
    for path in made(folder, command):
        if path in command.outputs and digest(folder / path) != command.outputs[path]:
            problems["torn"] = path
    if kill.number is not signal.SIGKILL and (left := _left(folder, command, _states(command))):
        problems["left after it"] = left


def _states(command: Command) -> list[str]:
    """Where an unfinished run keeps its state, which it may."""
    return [word.partition("=")[2] for word in command.words if word.startswith("--checkpoint=")]


def _left(folder: Path, command: Command, states: list[str]) -> str:
    """What nobody asked for: temporary files and folders."""
    files = [p for p in made(folder, command) if p not in command.outputs and p not in states]
    more = folders(folder) - command.folders - {"results/everything/checkpoints"}
    return ", ".join([*files, *sorted(more)])[:200]
