"""What is installed is what lies here: the wheel and its command, and one set of versions."""

import os
import subprocess
import sys
import tomllib

import pytest

from flowquant.runtime.digest import PACKAGE
from project import ROOT, STAGES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package as pip installs it, without what it depends on."""
    folder = tmp_path_factory.mktemp("installed")
    alone = ("--no-index", "--no-deps", "--no-build-isolation", "--no-compile", "--no-cache-dir")
    command = [sys.executable, "-m", "pip", "install", *alone, "--target", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_holds_the_whole_package(installed):
    def files(package):
        paths = (path for path in package.rglob("*") if path.is_file())
        return {
            str(path.relative_to(package)) for path in paths if path.parent.name != "__pycache__"
        }

    assert {"py.typed", "models/kernels/norm.py", "data/sources/idx.py"} <= files(PACKAGE)
    assert files(installed / "flowquant") == files(PACKAGE)


def test_the_command_lists_every_stage_with_a_sentence(installed, tmp_path):
    commands = [str(installed / "bin/flowquant")], [sys.executable, "-m", "flowquant"]
    for command in commands:
        listed = subprocess.run(
            [*command, "--help"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for stage in STAGES:
            (row,) = [line for line in listed.splitlines() if line.startswith(f"  {stage}  ")]
            assert row.removeprefix(f"  {stage}").strip().endswith("."), stage
