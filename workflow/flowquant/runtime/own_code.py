"""The user's own functions and classes: ``path/to/file.py:name`` or ``package.module:name``.

A path is taken from the folder that a command runs in; a module is one that Python finds there, or
that is installed.
"""

import hashlib
import os
import sys
import traceback
from collections.abc import Iterable
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any

from flowquant.runtime.errors import UserError, some

# The classes that this process and those it starts may run; names have no line breaks.
ALLOWED = "FLOWQUANT_CLASSES"
_loading = Lock()


def is_path(name: str) -> bool:
    """Whether a name is of a file's, not of a module's."""
    return name.partition(":")[0].endswith(".py")


def file_of(name: str) -> Path | None:
    """The file that a name is looked for in, found without running anything; None if not found."""
    place = name.rpartition(":")[0]
    if is_path(name):
        return Path(place)
    folders: Iterable[str] | None = [str(Path.cwd()), *sys.path]
    spec = None
    for index in range(place.count(".") + 1):
        module = ".".join(place.split(".")[: index + 1])
        spec = PathFinder.find_spec(module, list(folders) if folders is not None else [])
        if spec is None:
            return None
        folders = spec.submodule_search_locations
    return Path(spec.origin) if spec is not None and spec.origin else None


def content_digest(name: str) -> str:
    """A short hash of the content of the name's file; empty where there is none at hand."""
    path = file_of(name)
    if path is None or not path.is_file():
        return ""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def allow(names: Iterable[str]) -> None:
    """Let this process, and those that it starts, run these classes where files name them."""
    os.environ[ALLOWED] = "\n".join(names)


def refuse_unless_allowed(where: object, name: str) -> None:
    """Weights say which network they are of, and nothing that a file names is run unasked.

    Raises:
        UserError: if nobody said that this class may be run.
    """
    allowed = [word for word in os.environ.get(ALLOWED, "").split("\n") if word]
    if name not in allowed:
        raise UserError(
            where,
            found=f"a class to run, '{name}', which is not allowed",
            expected=f"one of those in the environment's {ALLOWED}: {some(allowed) or 'none'}",
            remedy="A run's configuration allows the classes of its presets. Elsewhere, if you "
            f"trust it: {ALLOWED}={name} flowquant …",
        )


def load(where: object, name: str) -> Any:
    """The function or class of this name; its file is run, once in a process.

    Raises:
        UserError: if there is no such file or module, it fails, or has nothing of this name.
    """
    place, _, attribute = name.rpartition(":")
    with _loading:
        try:
            module = _of_file(Path(place)) if is_path(name) else _of_module(place)
        except Exception as error:
            raise UserError(
                where,
                found=f"'{place}', which cannot be imported ({reason(error, place)})",
                expected="a Python file or module that can",
                remedy="Correct it, or the name; a path is taken from the folder that the command "
                "runs in.",
            ) from error
    found: Any = module
    try:
        for part in attribute.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        own = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise UserError(
            where,
            found=f"no `{attribute}` in '{place}'",
            expected=f"one of {some(own) or 'its functions and classes, of which there are none'}",
            remedy="Correct the name after the colon.",
        ) from error
    return found


def reason(error: Exception, place: str = "") -> str:
    """An error of the user's code in one line: its kind, what it says, and where it came from."""
    said = (str(error).splitlines() or [""])[0]
    frames = traceback.extract_tb(error.__traceback__)
    own = [f.lineno for f in frames if place and f.filename == str(Path(place).resolve())]
    line = f", line {own[-1]}" if own else ""
    return f"{type(error).__name__}: {said}{line}".replace(": ,", ",").removesuffix(": ")


def _of_file(path: Path) -> ModuleType:
    name = f"flowquant_own_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise ImportError("no Python file")
    module = sys.modules[name] = module_from_spec(spec)
    # As for a script, what lies beside it can be imported.
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _of_module(name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    return import_module(name)
