"""What is installed is what lies here: the wheel and its command, and one set of versions."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from flowquant import __version__
from flowquant.runtime.digest import PACKAGE
from project import ROOT, STAGES

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def pins(name: str) -> list[str]:
    """The pins of a requirements file, less those of the file that it includes."""
    lines = (ROOT / "envs" / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith(("#", "-r "))]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as pip installs it, without what it depends on."""
    folder = tmp_path_factory.mktemp("installed")
    alone = ("--no-index", "--no-deps", "--no-build-isolation", "--no-compile", "--no-cache-dir")
    command = [sys.executable, "-m", "pip", "install", *alone, "--target", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_holds_the_whole_package(installed: Path) -> None:
    def files(package: Path) -> set[str]:
        paths = (path for path in package.rglob("*") if path.is_file())
        return {
            str(path.relative_to(package)) for path in paths if path.parent.name != "__pycache__"
        }

    assert {"py.typed", "models/kernels/norm.py", "data/sources/idx.py"} <= files(PACKAGE)
    assert files(installed / "flowquant") == files(PACKAGE)


def test_the_command_lists_every_stage_with_a_sentence(installed: Path, tmp_path: Path) -> None:
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


def test_conda_and_container_install_the_pins_of_pip() -> None:
    conda = yaml.safe_load((ROOT / "envs/flowquant.yaml").read_text())["dependencies"]
    container = (ROOT / "envs/Dockerfile").read_text()
    assert conda[-1]["pip"] == pins("requirements.txt")
    peers = yaml.safe_load((ROOT / "envs/peers.yaml").read_text())["dependencies"]
    assert peers[:-1] == conda[:-1]
    assert peers[-1]["pip"] == [*pins("requirements.txt"), *pins("requirements-peers.txt")]
    assert re.findall("^FROM python:([0-9.]+)", container, re.M) == [conda[0].split("=")[1]]
    assert re.findall("^COPY (.*) /", container, re.M) == ["requirements.txt"]
    assert re.findall("pip install .* ([^ ]+)$", container, re.M) == ["/tmp/requirements.txt"]


@pytest.mark.parametrize(
    ("ranges", "name"),
    [
        (PROJECT["dependencies"], "requirements.txt"),
        (EXTRAS["dev"], "requirements-dev.txt"),
        (EXTRAS["dinov2"], "requirements-dinov2.txt"),
        (EXTRAS["efficientnet"], "requirements-efficientnet.txt"),
        (EXTRAS["slurm"], "requirements-slurm.txt"),
    ],
    ids=["run", "dev", "dinov2", "efficientnet", "slurm"],
)
def test_the_ranges_of_the_package_admit_the_pins(ranges: list[str], name: str) -> None:
    allowed = {canonicalize_name(r.name): r.specifier for r in map(Requirement, ranges)}
    pinned = {canonicalize_name(r.name): r.specifier for r in map(Requirement, pins(name))}
    assert set(allowed) == set(pinned)
    for package, exact in pinned.items():
        (pin,) = exact
        assert pin.operator == "==", package
        assert allowed[package].contains(pin.version), package


def test_oracles_are_of_the_versions_that_extractors_are_of() -> None:
    assert set(pins("requirements-dinov2.txt")) <= set(pins("requirements-oracles.txt"))


def test_the_oldest_python_is_said_once() -> None:
    (oldest,) = re.findall(r">=(3\.[0-9]+)", PROJECT["requires-python"])
    major, minor = oldest.split(".")
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    assert tools["mypy"]["python_version"] == oldest
    assert tools["ruff"]["target-version"] == f"py{major}{minor}"
    assert f"({major}, {minor})" in (ROOT / "Makefile").read_text()


def test_the_version_is_the_one_that_is_cited() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] == __version__
    assert citation["references"][0]["url"] == PROJECT["urls"]["Paper"]


def test_the_tests_that_hold_promises_are_there() -> None:
    named = re.findall("`(tests/[^`]+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    assert not [path for path in named if not (ROOT / path).exists()]
