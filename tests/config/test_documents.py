"""What is made from the sections is up to date; a setting is said in one place."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from flowquant.config import documents
from flowquant.config.configuration import Configuration
from flowquant.config.reading import merged, read_yaml
from flowquant.config.schema import json_schema, sections, sentence
from project import ROOT


def test_generated_files_are_up_to_date(request: pytest.FixtureRequest) -> None:
    """``pytest --fix`` and ``make fix`` write them."""
    if request.config.getoption("--fix"):
        documents.write()
    assert documents.SCHEMA.read_text(encoding="utf-8") == documents.schema_text()
    assert documents.README.read_text(encoding="utf-8") == documents.readme_text()


def test_every_section_has_a_table_and_every_field_a_sentence() -> None:
    tables = {match[2] for match in documents.TABLE.finditer(documents.readme_text())}
    assert tables == set(sections(Configuration))
    for section in sections(Configuration).values():
        for name in section.__dataclass_fields__:  # type: ignore[attr-defined]
            assert sentence(section, name).endswith("."), (section, name)


@pytest.mark.parametrize("run", ["config", "quickstart", "extended"])
def test_editors_accept_the_shipped_configurations(run: str) -> None:
    presets = read_yaml(ROOT / "config/datasets.yaml")
    content = merged(presets, read_yaml(ROOT / f"config/{run}.yaml"))
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(json_schema())
    assert not list(validator.iter_errors(content))
    assert list(validator.iter_errors(content | {"bist": 1}))
    assert list(validator.iter_errors(content | {"bits": [0]}))


USE = """
import sys
from pathlib import Path
from types import SimpleNamespace
from flowquant.config.run import Run
w = SimpleNamespace(dataset="digits")
content = {"run": "a", "datasets": ["digits"], "methods": {"ot": {"levels": "equal_mass"}},
           "bits": [2], "presets": {"digits": {"sampling": {"stiffness": 3}}}}
run = Run.read(content, Path(sys.argv[1]), [])
print(*run.sampling_options(w), *run.sweep_options(w), *run.benchmark_options(w))
"""
FIELD = '''    stiffness: Count = 7
    """How stiff the ODE is taken to be."""

    tolerance:'''


def test_a_new_setting_touches_one_file(tmp_path: Path) -> None:
    """A field of ``SolverConfig`` reaches YAML, options, help, schema and manual by itself."""
    for name in ("workflow", "config"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    path = tmp_path / "workflow/flowquant/config/sampling.py"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("    tolerance:", FIELD, 1), encoding="utf-8")

    def python(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path / "workflow",
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    words = python("-c", USE, str(tmp_path)).split()
    assert {"--sampling.stiffness=3", "--solver.stiffness=3"} <= set(words)
    assert "--sampling.stiffness INT" in python("-m", "flowquant", "sample", "--help")
    python("-m", "flowquant.config.documents")
    schema = yaml.safe_load((tmp_path / "workflow/schemas/config.schema.yaml").read_text())
    assert schema["$defs"]["SamplingSection"]["properties"]["stiffness"]["default"] == 7
    row = "| `stiffness` | `7` | a whole number, ≥ 1 | How stiff the ODE is taken to be. |"
    assert row in (tmp_path / "config/README.md").read_text(encoding="utf-8")
    changed = {
        str(file.relative_to(tmp_path))
        for name in ("workflow", "config")
        for file in (tmp_path / name).rglob("*")
        if file.is_file()
        and file.suffix != ".pyc"
        and file.read_bytes() != (ROOT / file.relative_to(tmp_path)).read_bytes()
    }
    generated = {"workflow/schemas/config.schema.yaml", "config/README.md"}
    assert changed - generated == {"workflow/flowquant/config/sampling.py"}
