"""Layers: who may import whom, how large a module may be, what a stage runs."""

import ast
import os
import subprocess
import sys

import pytest

import flowquant
from flowquant.runtime.digest import PACKAGE, direct_imports, imported_modules, module_of, source
from project import MODULES, STAGES

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
def test_modules_lie_in_layers(module: str) -> None:
    package = module.partition(".")[0]
    for imported in direct_imports(module):
        other = imported.partition(".")[0]
        assert other == package or HEIGHT[other] < HEIGHT[package], imported
    assert module.rpartition(".")[2] != "utils"
    text = source(module).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert "from ." not in text  # which digests do not follow


def test_packages_are_few_and_import_nothing() -> None:
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert len(entries) <= MOST_ENTRIES, entries
    for path in PACKAGE.rglob("__init__.py"):
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        imports = [ast.unparse(n) for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
        assert not imports or path.parent == PACKAGE, path


def test_the_package_imports_its_rooms_when_they_are_asked_for() -> None:
    code = "import flowquant, sys; print([n for n in sys.modules if n.startswith('flowquant.')])"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; print('torch' in sys.modules)"],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["[]", "False"]
    # What type checkers see is what there is.
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    seen = {
        node.names[0].name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flowquant.")
    }
    assert sorted(seen) == sorted(flowquant.__all__)
    for name, module in seen.items():
        assert getattr(flowquant, name).__module__ == module
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        flowquant.quantise  # noqa: B018


def test_no_stage_imports_another_stage() -> None:
    assert {"train", "quantize", "sample", "score", "dataset idx"} <= set(STAGES)
    modules = set(map(module_of, STAGES))
    for module in modules:
        assert not imported_modules(module) & modules - {module}, module


def test_no_module_imports_itself_in_a_circle() -> None:
    for module in MODULES:
        direct = direct_imports(module) - {module}
        assert all(module not in imported_modules(other) for other in direct), module
