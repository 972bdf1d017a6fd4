"""The house keeps its shape: layers, pins, documented keys."""

import ast

import pytest
import yaml

from flowquant.config.validation import load_schema
from flowquant.runtime.digest import PACKAGE, direct_imports, imported_modules, module_of, source
from project import MODULES, ROOT, STAGES

# From the ground up. A module imports from lower layers and from its own package, nothing else.
LAYERS = (
    ("runtime",),
    ("config",),
    ("data", "models", "report"),
    ("quantization",),
    ("sampling",),
    ("training", "evaluation"),
    ("benchmark",),
    ("stages",),
    ("__main__",),
)
HEIGHT = {package: height for height, layer in enumerate(LAYERS) for package in layer}
MOST_ENTRIES = 14
MOST_LINES = 400


@pytest.mark.parametrize("module", MODULES)
def test_modules_lie_in_layers(module):
    package = module.split(".")[0]
    for imported in direct_imports(module):
        other = imported.split(".")[0]
        assert other == package or HEIGHT[other] < HEIGHT[package], imported
    assert module.split(".")[-1] != "utils"
    text = source(module).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert "from ." not in text  # which digests do not follow


def test_packages_are_few_and_import_nothing():
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert len(entries) <= MOST_ENTRIES, entries
    for path in PACKAGE.rglob("__init__.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        assert not any(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes), path


def test_no_stage_imports_another_stage():
    assert {"train", "quantize", "sample", "evaluate", "dataset idx"} <= set(STAGES)
    modules = set(map(module_of, STAGES))
    for module in modules:
        assert not imported_modules(module) & modules - {module}, module


def test_no_module_imports_itself_in_a_circle():
    for module in MODULES:
        direct = direct_imports(module) - {module}
        assert all(module not in imported_modules(other) for other in direct), module


def test_conda_and_pip_name_the_same_packages():
    pip = [
        line for line in (ROOT / "envs/requirements.txt").read_text().splitlines() if line[0] != "#"
    ]
    conda = yaml.safe_load((ROOT / "envs/flowquant.yaml").read_text())
    assert conda["dependencies"][-1]["pip"] == pip
    assert all("==" in line for line in pip)


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
