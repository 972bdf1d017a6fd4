"""The configuration: checked against the schema, completed with its defaults, turned to options."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError, best_match

from flowquant.runtime.errors import UserError, some

SCHEMA = Path(__file__).parents[2] / "schemas" / "config.schema.yaml"
REFERENCE = "config/README.md lists every key."


@cache
def load_schema() -> dict[str, Any]:
    """The schema of the configuration."""
    schema: dict[str, Any] = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    return schema


def validate(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with all defaults filled in.

    Every method row gets its ``bits`` and its ``widths``, the names of its variants: its bits,
    or its budgets where it has them. ``granularity: {group: 64}`` becomes ``"group:64"``, and
    ``sweep.variants: null`` the names of all variants.

    Raises:
        UserError: at the first key that is unknown, of the wrong type or impossible.
    """
    complete: dict[str, Any] = deepcopy(dict(config))
    error = best_match(_filling_validator().iter_errors(complete), key=_depth)
    if error is not None:
        raise _explain(error, complete)
    for name, row in complete["methods"].items():
        row.setdefault("bits", complete["bits"])
        budgets = row["budget"] if isinstance(row["budget"], list) else [row["budget"]]
        row["widths"] = [f"{width:g}" for width in (budgets if row["budget"] else row["bits"])]
        if isinstance(row["granularity"], dict):
            row["granularity"] = f"group:{row['granularity']['group']}"
        _check_refinement(f"methods.{name}.refine", row["refine"])
    variants = variants_of(complete["methods"])
    if complete["sweep"]["variants"] is None:
        complete["sweep"]["variants"] = variants
    _check_names(complete, variants)
    for preset in complete["presets"].values():
        if preset["source"].get("least_side", 0) is None:
            preset["source"]["least_side"] = preset["network"]["patch"]
    for name in complete["datasets"]:
        _check_preset(f"presets.{name}", complete["presets"][name], complete["evaluation"])
    return complete


def variants_of(methods: Mapping[str, Any]) -> list[str]:
    """Names of all variants: full precision, and every width of every method (validated rows)."""
    return ["full"] + [
        f"{name}/{width}bit" for name, row in methods.items() for width in row["widths"]
    ]


def _depth(error: ValidationError) -> Any:
    # An unknown key is told before what its absence breaks; else the deepest error is the nearest.
    return error.validator == "additionalProperties", len(error.path)


@cache
def _filling_validator() -> Any:
    check_properties = Draft202012Validator.VALIDATORS["properties"]

    def fill(
        validator: Any, properties: Mapping[str, Any], instance: Any, schema: Mapping[str, Any]
    ) -> Iterator[ValidationError]:
        if isinstance(instance, dict):
            for name, subschema in properties.items():
                if "default" in subschema:
                    instance.setdefault(name, deepcopy(subschema["default"]))
        yield from check_properties(validator, properties, instance, schema)

    extended = validators.extend(Draft202012Validator, {"properties": fill})
    return extended(load_schema())


def _explain(error: ValidationError, config: Mapping[str, Any]) -> UserError:
    where = ".".join(str(part) for part in error.absolute_path)
    schema, value = error.schema, error.instance
    if error.validator == "additionalProperties":
        known = sorted(schema.get("properties", {}))
        patterns = list(schema.get("patternProperties", {}))
        unknown = next(
            str(key)
            for key in value
            if key not in known and not any(re.search(p, str(key)) for p in patterns)
        )
        near = difflib.get_close_matches(unknown, known, n=1)
        return UserError(
            f"configuration key `{'.'.join(filter(None, [where, unknown]))}`",
            found="an unknown key" if known else "an impossible name",
            expected=f"one of {', '.join(known)}" if known else f"a name matching {patterns[0]}",
            remedy=f"Did you mean `{near[0]}`?" if near else REFERENCE,
        )
    if error.validator == "required":
        missing = next(name for name in schema["required"] if name not in value)
        return UserError(
            f"configuration key `{'.'.join(filter(None, [where, missing]))}`",
            found="nothing",
            expected=_describe(schema.get("properties", {}).get(missing, {})),
            remedy=REFERENCE,
        )
    return UserError(
        f"configuration key `{where}`",
        found=repr(value),
        expected=_describe(schema),
        remedy=REFERENCE,
    )


def _describe(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(str(choice) for choice in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    parts = [str(schema.get("description", "")).strip().rstrip(".")]
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        parts.append(" or ".join(kinds))
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    parts += [f"{sign} {schema[name]}" for name, sign in bounds.items() if name in schema]
    if "pattern" in schema:
        parts.append(f"matching {schema['pattern']}")
    if "minItems" in schema:
        parts.append(f"at least {schema['minItems']} of them")
    if schema.get("uniqueItems"):
        parts.append("each once")
    return ", ".join(part for part in parts if part)


def _check_names(config: Mapping[str, Any], variants: list[str]) -> None:
    for name in config["datasets"]:
        if name not in config["presets"]:
            raise UserError(
                "configuration key `datasets`",
                found=f"'{name}'",
                expected=f"one of {some(sorted(config['presets']))}",
                remedy="Add a preset for it under `presets` (config/datasets.yaml has examples).",
            )
    for variant in config["sweep"]["variants"]:
        if variant not in variants:
            raise UserError(
                "configuration key `sweep.variants`",
                found=f"'{variant}'",
                expected=f"one of {some(variants)}",
                remedy="Name a variant that `methods` and `bits` make, or leave the key out.",
            )


def _check_refinement(where: str, refine: Mapping[str, Any] | None) -> None:
    if refine and refine["rounds"] and refine["assignments"] == "trained":
        raise UserError(
            f"configuration key `{where}.rounds`",
            found=f"{refine['rounds']} with `assignments: trained`",
            expected="0, since values then take the nearest level at every step",
            remedy="Leave `rounds` out, or set `assignments: fixed`.",
        )


def _check_preset(where: str, preset: Mapping[str, Any], evaluation: Mapping[str, Any]) -> None:
    image, condition, network = preset["image"], preset["condition"], preset["network"]
    sampling, training = preset["sampling"], preset["training"]
    layout = preset["source"].get("layout", {})
    checks = [
        (
            image["size"] % network["patch"] == 0,
            "network.patch",
            f"{network['patch']}",
            f"a divisor of the image size {image['size']}",
            "Choose a patch that divides the image.",
        ),
        (
            network["width"] % network["heads"] == 0,
            "network.heads",
            f"{network['heads']}",
            f"a divisor of the width {network['width']}",
            "Choose a number of heads that divides the width.",
        ),
        (
            not (condition["kind"] == "attributes" and network["condition"] == "embedding"),
            "network.condition",
            "'embedding' for attributes",
            "'linear', since several attributes hold at once",
            "Set `condition: linear`.",
        ),
        (
            not (condition["kind"] == "attributes" and preset["classifier"]),
            "classifier",
            "a classifier for attributes",
            "null: a classifier needs `condition.kind: class`",
            "Set `classifier: null`.",
        ),
        (
            evaluation["extractor"] != "classifier" or bool(preset["classifier"]),
            "classifier",
            "no classifier, but `evaluation.extractor: classifier`",
            "a classifier, whose features are used",
            "Give the preset a classifier or set `evaluation.extractor: inception-v3-compat`.",
        ),
        (
            sampling["condition"] == "zeros" or condition["kind"] == "attributes",
            "sampling.condition",
            f"'{sampling['condition']}' for classes",
            "'zeros', since every class is sampled equally often",
            "Leave `sampling.condition` out, or use attributes.",
        ),
        (
            sampling["guidance"] == 1 or training["condition_dropout"] > 0,
            "sampling.guidance",
            f"{sampling['guidance']} for a network that never learned to do without a condition",
            "1, or `training.condition_dropout` above 0",
            "Set `training.condition_dropout` to what the network is (or was) trained with.",
        ),
        (
            training["batch"] % training["devices"] == 0,
            "training.devices",
            f"{training['devices']}",
            f"a divisor of the batch {training['batch']}",
            "Choose `batch` and `devices` so that all devices take the same share.",
        ),
        (
            layout.get("test", True) is not None or layout.get("test_fraction") is not None,
            "source.layout",
            "neither `test` nor `test_fraction`",
            "one of them",
            "Name the folder of the test images, or the share of images to test with.",
        ),
    ]
    for fine, key, found, expected, remedy in checks:
        if not fine:
            raise UserError(
                f"configuration key `{where}.{key}`",
                found=found,
                expected=expected,
                remedy=remedy,
            )


def command_flags(content: Mapping[str, Any], prefix: str = "") -> str:
    """Nested settings as a stage's command-line options: ``--training.batch 128 …``, quoted."""
    parts: list[str] = []
    for key, value in content.items():
        name = f"{prefix}{key.replace('_', '-')}"
        if isinstance(value, Mapping):
            parts.append(command_flags(value, f"{name}."))
        elif isinstance(value, list | tuple):
            parts.append(" ".join([f"--{name}", *(shlex.quote(str(item)) for item in value)]))
        else:
            parts.append(f"--{name} {shlex.quote(str(value))}")
    return " ".join(part for part in parts if part)
