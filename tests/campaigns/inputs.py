"""Malformed inputs: for every stage and each file that it reads, one thing wrong with it.

Each ends in at most one message, exit code 1, no output, and little memory.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from campaigns import damage, formats, originals_damage
from campaigns.damage import Damage
from campaigns.outcome import Outcome
from campaigns.reference import Command, Reference, digest, made, spoken
from campaigns.trial import Ending, run

MOST_MEMORY = 1 << 30
KINDS: Mapping[str, Mapping[str, Damage]] = {
    ".safetensors": formats.TENSORS,
    ".json": damage.JSON,
    ".csv": damage.CSV,
    ".pt": formats.CHECKPOINTS,
    ".zip": originals_damage.ARCHIVES,
    ".xz": originals_damage.ARCHIVES,
    ".txt": originals_damage.LISTS,
}
BY_NAME: Mapping[str, Mapping[str, Damage]] = {
    "cifar-10-python.tar.gz": {**originals_damage.ARCHIVES, **originals_damage.CIFAR10},
    "-ubyte.gz": originals_damage.IDX,
}


def damages(path: str) -> dict[str, Damage]:
    """All that can be wrong with a file of this name."""
    own = next((found for name, found in BY_NAME.items() if path.endswith(name)), None)
    own = KINDS.get(Path(path).suffix, {}) if own is None else own
    return {**damage.ANY, **own}


def cases(commands: list[Command]) -> list[tuple[Command, str, str]]:
    """Every stage, each kind of file that it reads, and each damage to it; in this order."""
    found: dict[tuple[str, str, str], tuple[Command, str, str]] = {}
    for command in commands:
        for path in read_by(command):
            for name in damages(path):
                key = (command.stage, kind_of(path), name)
                found.setdefault(key, (command, path, name))
    return list(found.values())


def read_by(command: Command) -> list[str]:
    """The inputs that a command reads; of a data root, those of its own source."""
    if command.words[0] != "dataset":
        return list(command.inputs)
    names = [
        word.partition("=")[2]
        for word in command.words
        if word.startswith(("--source.folder=", "--source.path="))
    ]
    return [path for path in command.inputs for name in names if path.startswith(f"data/{name}")]


def kind_of(path: str) -> str:
    """What a file is, whatever it is of."""
    parts = Path(path).parts
    if parts[0] == "data":
        return Path(path).name
    if parts[0] != "results":
        return Path(path).name
    return f"{parts[1] if parts[1] != 'everything' else parts[2]} {Path(path).suffix}"


def trials(reference: Reference, count: int, seed: int, part: int, parts: int) -> Iterator[Outcome]:
    """Each case, in an order that the seed says, again and again with other random choices."""
    every = cases(reference.commands)
    random.Random(seed).shuffle(every)
    for number in range(part, count, parts):
        command, path, name = every[number % len(every)]
        rng = random.Random(f"{seed} {number}")
        found = _trial(reference, command, path, name, rng)
        if found is not None:
            found.number = number
            yield found


def _trial(
    reference: Reference, command: Command, path: str, name: str, rng: random.Random
) -> Outcome | None:
    folder = reference.fresh(command)
    target = folder / path
    # A copy: the file is a link to the run's own.
    copied = target.with_name(f"{target.name}.copy")
    shutil.copyfile(target, copied)
    copied.replace(target)
    try:
        must = damages(path)[name](target, rng)
    except Exception as error:
        raise RuntimeError(f"{command.name}: {name} of {path}") from error
    # A run may have nothing to compare: a page is made of a table without rows, too.
    must = must and (command.stage, name) != ("report_table", "head_alone")
    before = {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}
    ending = run(folder, spoken(command, folder))
    found = Outcome(command.stage, f"{kind_of(path)} {name}", where=folder.name)
    found.seconds, found.peak = ending.seconds, max(ending.peak - command.peak, 0)
    found.said = ending.said.strip()[-400:]
    new = [p for p in made(folder, command) if p not in before]
    same = {p: digest(folder / p) for p in new} == command.outputs
    found.state = "refused"
    if ending.code == 0:
        found.state = "accepted, same result" if same else "accepted"
    _judge(folder, ending, must, new, found)
    if not found.problems:
        reference.drop(folder)
    return found


def _judge(folder: Path, ending: Ending, must: bool, new: list[str], found: Outcome) -> None:
    problems = found.problems
    if ending.timed_out:
        problems["hangs"] = f"over {ending.seconds:.0f} s"
    elif ending.code not in (0, 1):
        problems["exit"] = f"{ending.code}: {ending.said[-200:]}"
    if ending.traceback:
        problems["traceback"] = ending.traceback
    elif ending.code == 1:
        messages = [line for line in ending.said.splitlines() if line.startswith("error: ")]
        if len(messages) != 1 or not ending.said.rstrip().endswith(messages[0]):
            problems["messages"] = ending.said[-300:]
        elif len(messages[0]) > 1500:
            problems["long message"] = f"{len(messages[0])} characters: {messages[0][:200]}"
    if ending.code and new:
        problems["output"] = ", ".join(new)[:200]
    if found.state == "accepted" and must:
        problems["accepted"] = ending.said.strip()[-200:] or "without a word"
    if found.peak > MOST_MEMORY:
        problems["memory"] = f"{found.peak >> 20} MiB more"
    if list(folder.rglob("*PWNED*")) or Path("/tmp/PWNED").exists():
        problems["executed"] = "what a file said was done"
