"""Malformed configurations: one to three things wrong at any key that the schema has.

Each is refused in one line, before the first job; whatever is accepted, the published schema
accepts too.
"""

from __future__ import annotations

import copy
import json
import math
import os
import random
import time
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from campaigns.outcome import Outcome
from campaigns.reference import Reference
from everything import EVERYTHING
from flowquant.config.reading import merged
from flowquant.config.run import Run
from flowquant.config.schema import json_schema, resolve
from flowquant.runtime.errors import UserError
from project import ROOT

Content = dict[str, Any]
NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 0.5, -0.0, 10**30, 1e300, 1e-300),
    *(math.nan, math.inf, -math.inf, "", "x", "1", "1e-3", "a\nb", "\x00", "../x", "a" * 10_000),
    *([], [None], [1, 1], [[1]], ["x"], [-1], list(range(50)), {}, {"x": 1}, {1: 2}, {None: 1}),
)


@cache
def _bases() -> tuple[Content, ...]:
    """Whole configurations, with a preset that the workflow does not come with."""
    shipped = yaml.safe_load((ROOT / "config/datasets.yaml").read_text())["presets"]
    found = []
    for name in ("quickstart", "extended", "config"):
        content = yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
        first = content["datasets"][0]
        own = merged(shipped[first], content.get("presets", {}).get(first, {}))
        found.append(content | {"datasets": ["mine"], "presets": {"mine": own}})
    tiny = {**EVERYTHING, "presets": {"tiny_idx": EVERYTHING["presets"]["tiny_idx"]}}
    # Without YAML's anchors: what is changed in one place is its own.
    return tuple(json.loads(json.dumps(content)) for content in (tiny, *found))


def keys(node: Content, content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all keys that a configuration has or may have."""
    node = resolve(node, content)
    if path:
        yield path
    for name, child in node.get("properties", {}).items():
        inside = content.get(name) if isinstance(content, dict) else None
        yield from keys(child, inside, (*path, name))
    for child in node.get("patternProperties", {}).values():
        for name in content or ():
            yield from keys(child, content[name], (*path, name))


@cache
def _places(base: int) -> tuple[tuple[Any, ...], ...]:
    return tuple(keys(json_schema(), _bases()[base]))


def mutated(rng: random.Random) -> tuple[Content, str]:
    """A configuration with something wrong, most of the time; and what was done."""
    base = rng.randrange(len(_bases()))
    content = copy.deepcopy(_bases()[base])
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        *parents, last = rng.choice(_places(base))
        inside: Any = content
        for part in parents:
            inside = inside.setdefault(part, {}) if isinstance(inside, dict) else None
        if not isinstance(inside, dict):
            continue
        name = ".".join(map(str, [*parents, last]))
        match rng.randrange(8):
            case 0:
                inside.pop(last, None)
                done.append(f"no {name}")
            case 1:
                wrong = rng.choice([f"{last}s", f"{last[:-1]}", last.upper(), 1, None, "", "x.y"])
                inside[wrong] = inside.pop(last, 1)
                done.append(f"{name} as {wrong!r}")
            case _:
                inside[last] = copy.deepcopy(rng.choice(NASTY))
                done.append(f"{name}: {inside[last]!r:.60}")
    return content, "; ".join(done)


def text(rng: random.Random) -> tuple[str, str]:
    """A file's text with something wrong in it."""
    content = (ROOT / "config/quickstart.yaml").read_text()
    place = rng.randrange(len(content))
    match rng.randrange(5):
        case 0:
            return content[:place], "cut"
        case 1:
            odd = rng.choice(
                [*"\t:{}[]&*!|>%@`\"'#-\0", "\ud7ff", "<<: *x", "!!python/object:x", "? "]
            )
            return content[:place] + odd + content[place:], f"{odd!r} at {place}"
        case 2:
            depth = rng.choice([100, 5000])
            return content + "x: " + "[" * depth + "]" * depth + "\n", f"{depth} deep"
        case 3:
            lines = content.splitlines()
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            return "\n".join(lines), "a line twice"
        case _:
            bomb = "a0: &a0 [x, x]\n" + "".join(
                f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
            )
            return content + bomb, "aliases of aliases"


def trials(reference: Reference, count: int, seed: int, part: int, parts: int) -> Iterator[Outcome]:
    """Until ``count`` of them were malformed, by the schema or by what relates keys."""
    folder = reference.folder / f"configurations{part}"
    folder.mkdir(exist_ok=True)
    refused, number = 0, part
    while refused < (count + part) // parts:
        rng = random.Random(f"{seed} {number}")
        found = _trial(folder / "mine.yaml", rng)
        found.number = number
        refused += found.state != "accepted"
        number += parts
        yield found


def _trial(path: Path, rng: random.Random) -> Outcome:
    if rng.randrange(10):
        content, what = mutated(rng)
        written = yaml.safe_dump(content, allow_unicode=True)
    else:
        written, what = text(rng)
    path.write_text(written, encoding="utf-8", errors="surrogatepass")
    began = time.monotonic()
    found = Outcome("configuration", "any", where=what)
    os.chdir(path.parent)
    try:
        try:
            given = yaml.safe_load(written)
        except (yaml.YAMLError, ValueError, RecursionError):
            given = {}
        Run.read(given if isinstance(given, dict) else {}, ROOT, [path])
        found.state = "accepted"
        _check_accepted(given, found)
    except UserError as error:
        found.state, found.said = "refused", str(error)
        if "\n" in found.said or len(found.said) > 1500:
            found.problems["messages"] = found.said[:300]
    except BaseException as error:
        found.state = "broken"
        place = traceback.extract_tb(error.__traceback__)[-1]
        found.problems["traceback"] = f"{error!r:.150} at {place.filename}:{place.lineno}"
    found.seconds = time.monotonic() - began
    return found


def _check_accepted(given: Any, found: Outcome) -> None:
    """What the published schema says of what was accepted."""
    full = {**given}
    for section in ("methods", "presets"):
        rows = full.pop(section, None) or {}
        # `null` takes a row away, and a preset may be one that the workflow comes with.
        if rows := {name: row for name, row in rows.items() if row is not None}:
            full[section] = rows
    schema = json_schema()
    schema = {**schema, "required": [key for key in schema["required"] if key != "presets"]}
    for error in Draft202012Validator(schema).iter_errors(full):
        path = ".".join(map(str, error.absolute_path))
        found.problems["accepted"] = f"{path}: {error.message[:150]}"
