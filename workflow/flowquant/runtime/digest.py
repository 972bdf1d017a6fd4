"""Which code a stage runs: a content hash of its module and of all it imports from this package."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@cache
def commands() -> tuple[str, ...]:
    """What can be run: every stage by its name, and ``dataset`` with each kind of source."""
    stages, sources = (
        sorted(path.stem for path in (PACKAGE / folder).glob("[!_]*.py"))
        for folder in ("stages", "data/sources")
    )
    return (*(f"dataset {kind}" for kind in sources), *stages)


def module_of(command: str) -> str:
    """The module of this package that a command runs."""
    stage, _, kind = command.partition(" ")
    return f"data.sources.{kind}" if stage == "dataset" else f"stages.{stage}"


def imported_modules(module: str) -> set[str]:
    """``module`` and every module of this package that it imports, directly or not.

    Names are relative to the package: ``stages.train``, ``data.sources.idx``. Imports inside
    functions count.
    """
    found: set[str] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending.extend(_direct_imports(name))
    return found


@cache
def _direct_imports(module: str) -> frozenset[str]:
    tree = ast.parse(source(module).read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flowquant":
            base = (node.module or "").removeprefix("flowquant").lstrip(".")
            candidates = {f"{base}.{alias.name}".lstrip(".") for alias in node.names} | {base}
            names |= {name for name in candidates if name and source(name).is_file()}
        elif isinstance(node, ast.Import):
            names |= {
                alias.name.removeprefix("flowquant.")
                for alias in node.names
                if alias.name.startswith("flowquant.")
            }
    return frozenset(names)


def source(module: str) -> Path:
    """The file that holds a module of this package."""
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


@cache
def digest(command: str) -> str:
    """A short hash of the code that a command runs, for a rule's ``params``."""
    content = hashlib.sha256()
    for module in sorted(imported_modules(module_of(command))):
        content.update(module.encode() + b"\0" + source(module).read_bytes() + b"\0")
    return content.hexdigest()[:16]
