"""The house keeps its shape: floors, pins, digests, documented keys."""

import re

import pytest
from flowquant.config.validation import load_schema

from flowquant.runtime.digest import PACKAGE, digest, imported_modules, module_of
from project import MODULES, ROOT, STAGES


def test_no_stage_imports_another_stage():
    assert {"train", "quantize", "sample", "evaluate", "dataset idx"} <= set(STAGES)
    modules = set(map(module_of, STAGES))
    for module in modules:
        assert not imported_modules(module) & modules - {module}, module


def test_no_module_imports_itself_in_a_circle():
    for module in MODULES:
        direct = imported_modules(module) - {module}
        assert all(module not in imported_modules(other) for other in direct), module


def test_what_a_stage_runs():
    train = imported_modules("stages.train")
    assert {"models.transformer", "models.path", "models.model", "runtime.random"} <= train
    assert not {"quantization.codebook", "quantization.packing"} & train
    assert "quantization.levels" in imported_modules("stages.quantize")
    for stage in ("train", "sample", "evaluate", "classifier"):
        assert "quantization.levels" not in imported_modules(f"stages.{stage}")


def test_digests_follow_the_code():
    assert digest("train") == digest("train")
    assert digest("train") != digest("sample")
    assert re.fullmatch("[0-9a-f]{16}", digest("train"))


@pytest.mark.parametrize("name", MODULES)
def test_modules_stay_small(name):
    path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
    assert len(path.read_text().splitlines()) <= 400


def schema_keys(schema, definitions):
    """Names of all keys that a configuration can have."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    names = set()
    for part in [schema, *schema.get("anyOf", []), *(s["then"] for s in schema.get("allOf", []))]:
        for name, value in part.get("properties", {}).items():
            names |= {name} | schema_keys(value, definitions)
        for value in part.get("patternProperties", {}).values():
            names |= schema_keys(value, definitions)
    return names


def test_every_key_is_documented():
    schema = load_schema()
    keys = schema_keys(schema, schema["$defs"])
    assert {"run", "levels", "patch", "kid_subsets", "sha256"} <= keys
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    missing = sorted(key for key in keys if f"`{key}`" not in text)
    assert not missing
