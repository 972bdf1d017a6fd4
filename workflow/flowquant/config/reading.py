"""Reading a configuration: its files merged, checked and completed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from flowquant.config.configuration import Configuration
from flowquant.config.messages import explain
from flowquant.config.network import DEFAULT_FAMILY
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import read_text


def check(content: Mapping[str, Any]) -> Configuration:
    """The configuration that this content is, with all defaults filled in.

    Raises:
        UserError: at the first key that is unknown, of the wrong type or impossible.
    """
    try:
        return TypeAdapter(Configuration).validate_python(dict(content))
    except ValidationError as error:
        raise explain(error, content) from None


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Two configurations as one: mappings are merged, all else of ``over`` counts.

    So does all of a network of another family, whose keys would mean nothing there.
    """
    result = deepcopy(dict(under))
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping) and _alike(below, value):
            result[key] = merged(below, value)
        else:
            result[key] = deepcopy(value)
    return result


def _alike(below: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    was = below.get("family", DEFAULT_FAMILY)
    return value.get("family", was) == was


def retyped(value: Any) -> Any:
    """A value of ``--config``, in whose lists and mappings Snakemake takes all for text."""
    if isinstance(value, Mapping):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_typed(item) for item in value]
    return value


def _typed(item: Any) -> Any:
    return yaml.safe_load(item) if isinstance(item, str) else retyped(item)


def read_yaml(path: Path) -> dict[str, Any]:
    """A configuration file's content, in which every key stands once.

    Raises:
        UserError: if the file is unreadable, no mapping, or says a key twice.
    """
    try:
        text = read_text(path)
        content = yaml.safe_load(text)
    except RecursionError as error:
        raise _unreadable(path, "brackets nested too deeply") from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _unreadable(path, " ".join(str(error).split())) from error
    if not isinstance(content, dict):
        raise _unreadable(path, f"{type(content).__name__} at the top")
    refuse_repeated_keys(path, text)
    return content


def refuse_repeated_keys(path: Path, text: str) -> None:
    """YAML silently takes the last of two equal keys.

    Raises:
        UserError: if a mapping has a key twice.
    """
    seen: set[int] = set()
    pending: list[yaml.Node | None] = [yaml.compose(text, Loader=yaml.SafeLoader)]
    while pending:
        node = pending.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            pending += node.value
        if not isinstance(node, yaml.MappingNode):
            continue
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            pending.append(value)
            name, line = (key.tag, str(key.value)), key.start_mark.line + 1
            if name in lines:
                raise UserError(
                    path,
                    found=f"`{key.value}` in line {lines[name]} and again in line {line}",
                    expected="every key once",
                    remedy="Keep one of them: YAML would silently take the last.",
                )
            lines[name] = line


def refuse_missing_files(paths: Iterable[tuple[str, str]]) -> None:
    """Files that a configuration names and that must be there before any job.

    Args:
        paths: Configuration keys, and the paths that they name.

    Raises:
        UserError: if one is no file.
    """
    for key, path in paths:
        if not Path(path).is_file():
            raise UserError(
                f"configuration key `{key}`",
                found=f"'{path}', where there is no file",
                expected="a file at hand",
                remedy="Check the path; it is taken from the folder that Snakemake works in.",
            )


def _unreadable(path: Path, found: str) -> UserError:
    return UserError(
        path,
        found=found,
        expected="a YAML mapping of configuration keys",
        remedy="Correct the file; config/README.md lists every key.",
    )
