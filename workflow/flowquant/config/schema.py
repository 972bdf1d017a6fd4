"""The configuration as a JSON schema, made from its sections."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic.dataclasses import is_pydantic_dataclass

from flowquant.config.configuration import Configuration
from flowquant.config.fields import DEFAULT_TAG, MOST, READS

WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}
# What a key is for that chooses among kinds of sections.
TAGS = {"kind": "Format of the source", "family": "Kind of network"}
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


@cache
def json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a configuration, with a sentence for each key."""
    schema = TypeAdapter(Configuration).json_schema()
    kinds = sections(Configuration)
    for name, definition in {"Configuration": schema, **schema["$defs"]}.items():
        _add_sentences(definition, kinds[name])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_tidy(schema),
        "title": "flowquant configuration",
        "description": "Every key's type, range and default; config/README.md explains them.",
    }


def sentence(section: type, field: str) -> str:
    """The sentence below a field, wherever in the section's ancestry it stands."""
    for base in section.__mro__:
        for name, own in getattr(base, "__pydantic_fields__", {}).items():
            if field in (name, own.alias) and own.description:
                return " ".join(str(own.description).split())
    raise LookupError(f"{section.__name__}.{field} has no sentence below it")


def sections(kind: Any) -> dict[str, type]:
    """Every section that a type reaches, by name."""
    found: dict[str, type] = {}
    pending = [kind]
    while pending:
        kind = pending.pop()
        if isinstance(kind, type) and is_pydantic_dataclass(kind):
            if kind.__name__ not in found:
                found[kind.__name__] = kind
                pending += [field.annotation for field in kind.__pydantic_fields__.values()]
        else:
            pending += getattr(kind, "__args__", ())
    return found


def _add_sentences(definition: dict[str, Any], section: type) -> None:
    definition["description"] = " ".join((section.__doc__ or "").split())
    for name, node in definition.get("properties", {}).items():
        node["description"] = sentence(section, name)


def _tidy(node: Any) -> Any:
    """Without titles that only repeat names; names that no pattern matches are refused."""
    if isinstance(node, list):
        return [_tidy(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy = {
        key: {name: _tidy(item) for name, item in value.items()}
        if key in ("properties", "$defs")
        else _tidy(value)
        for key, value in node.items()
        if key != "title"
    }
    if names := tidy.get("propertyNames", {}).get("enum"):
        tidy["patternProperties"] = {f"^({'|'.join(names)})$": tidy["additionalProperties"]}
    return tidy | ({"additionalProperties": False} if "patternProperties" in tidy else {})


def node_at(path: list[Any], content: Any) -> dict[str, Any]:
    """The schema of the key that a path leads to; ``content`` chooses among kinds of sections."""
    node = resolve(json_schema(), content)
    for part in path:
        content = _child(content, part)
        if isinstance(part, int) and "items" in node:
            node = node["items"]
        elif isinstance(part, int) and part < len(node.get("prefixItems", [])):
            node = node["prefixItems"][part]
        elif part in node.get("properties", {}):
            node = node["properties"][part]
        else:
            patterns = node.get("patternProperties", {})
            node = next((n for p, n in patterns.items() if re.search(p, str(part))), {})
        node = resolve(node, content)
    return node


def _child(content: Any, part: Any) -> Any:
    try:
        return content[part]
    except (TypeError, KeyError, IndexError):
        return None


def resolve(node: Mapping[str, Any], content: Any) -> dict[str, Any]:
    """A schema node with its references followed and, beside null, the one choice that counts."""
    if "$ref" in node:
        target = json_schema()["$defs"][node["$ref"].rpartition("/")[2]]
        return resolve({**target, **{k: v for k, v in node.items() if k != "$ref"}}, content)
    if "oneOf" in node:
        tag, kinds = node["discriminator"]["propertyName"], node["discriminator"]["mapping"]
        said = content.get(tag, node.get(DEFAULT_TAG)) if isinstance(content, Mapping) else None
        chosen = kinds.get(str(said))
        if chosen is None:
            words = {"enum": list(kinds), "description": TAGS[tag]}
            return {
                "type": "object",
                "description": node.get("description", ""),
                "properties": {tag: words},
            }
        return resolve({"$ref": chosen}, content)
    if "anyOf" in node:
        choices = [resolve(choice, content) for choice in node["anyOf"]]
        real = next(choice for choice in choices if choice.get("type") != "null")
        own = {key: value for key, value in node.items() if key != "anyOf"}
        return {**real, **own, "nullable": any(c.get("type") == "null" for c in choices)}
    return dict(node)


def describe(node: Mapping[str, Any]) -> str:
    """What a key may hold, in words: its type and range, and what it is for."""
    meaning = re.split(r"[;:.]", str(node.get("description", "")))[0].replace("``", "`").strip()
    kind = allowed(node)
    return f"{kind} ({meaning})" if kind and meaning else kind or meaning


def allowed(node: Mapping[str, Any]) -> str:
    """A key's type and range, in words."""
    if READS in node:
        parts = [str(node[READS])]
    elif "enum" in node:
        parts = ["one of " + ", ".join(map(str, node["enum"]))]
    elif "items" in node:
        parts = [f"a list ({allowed(resolve(node['items'], None))})"]
        parts += [f"at least {node['minItems']}, each once"] if "minItems" in node else []
    elif "prefixItems" in node:
        items = node["prefixItems"]
        parts = [f"a list of {len(items)} ({allowed(resolve(items[0], None))}), each once"]
    else:
        parts = [WORDS.get(node.get("type", ""), "")]
        bounds = {name: node[name] for name in BOUNDS if node.get(name, MOST) != MOST}
        parts += [f"{BOUNDS[name]} {bound:g}" for name, bound in bounds.items()]
        parts += [f"a multiple of {node['multipleOf']}"] if "multipleOf" in node else []
        parts += [f"matching {node['pattern']}"] if "pattern" in node else []
        least = node.get("minProperties")
        parts += [f"at least {least} that is not null"] if least else []
    words = ", ".join(filter(None, parts))
    return f"{words}; or null" if node.get("nullable") else words
