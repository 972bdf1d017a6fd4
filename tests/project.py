"""A private copy of the workflow, and Snakemake on it as a user would call it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from flowquant.runtime.client import ADDRESS
from flowquant.runtime.digest import PACKAGE, commands

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"
STOPWATCH = Path(__file__).parent / "stopwatch"


def oracle(name: str) -> ModuleType:
    """A package to compare with (envs/requirements-oracles.txt); skips without, but not in CI."""
    if find_spec(name) is None:
        message = f"{name} is not installed: pip install --no-deps -r envs/requirements-oracles.txt"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return import_module(name)


MODULES = sorted(
    str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".")
    for path in PACKAGE.rglob("*.py")
    if path.stem != "__init__"
)
STAGES = commands()

# A process that has ended, its output read as text.
Done = subprocess.CompletedProcess[str]

# The smallest run of the whole workflow.
TINY: dict[str, Any] = yaml.safe_load((ROOT / ".test/config/config.yaml").read_text())


@dataclass
class Workflow:
    """A copy of the project in a folder of its own; ``warm``: one process forks its jobs."""

    folder: Path
    warm: bool = True

    def configure(self, name: str, content: dict[str, Any]) -> None:
        """Write a configuration file."""
        (self.folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")

    def snakemake(self, *arguments: str, config: tuple[str, ...] = ("tiny.yaml",)) -> Done:
        """Run Snakemake with these configuration files; the completed process, output merged."""
        command = [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]
        if config:
            command += ["--configfile", *config]
        return self._run(command)

    def stage(self, command: str, *arguments: str) -> Done:
        """Run a stage by itself; the completed process, output merged."""
        return self._run([sys.executable, "-m", "flowquant", *command.split(), *arguments])

    def processor_seconds(self) -> dict[str, list[float]]:
        """What each process of each stage has used up."""
        found = defaultdict(list)
        for note in self._notes():
            found[note["stage"]].append(note["seconds"])
        return found

    def loaded_modules(self) -> dict[str, set[str]]:
        """Which of the package's modules the processes of each stage have loaded."""
        found = defaultdict(set)
        for note in self._notes():
            found[note["stage"]].update(note["loaded"])
        return found

    def parents(self) -> list[int]:
        """The process that started each of the stages' processes."""
        return [note["parent"] for note in self._notes()]

    def _notes(self) -> list[dict[str, Any]]:
        lines = (self.folder / "stopwatch.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def _run(self, command: list[str]) -> Done:
        paths = os.pathsep.join(map(str, (self.folder / "workflow", STOPWATCH)))
        return subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ
            | {"PYTHONPATH": paths, "STOPWATCH": str(self.folder / "stopwatch.jsonl")}
            | ({} if self.warm else {ADDRESS: "no"}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def jobs(
        self, *config: str, base: tuple[str, ...] = ("tiny.yaml",), targets: tuple[str, ...] = ()
    ) -> dict[str, int]:
        """How many jobs of each rule a dry run lists."""
        done = self.snakemake("--dry-run", *targets, config=(*base, *config))
        return listed(done.returncode, done.stdout)

    def dry_runs(
        self, requests: Sequence[tuple[Sequence[str], Path | None]]
    ) -> list[tuple[int, str]]:
        """What many dry runs end with and print; `dry_runs.py` says how."""
        done = subprocess.run(
            [sys.executable, str(Path(__file__).parent / "dry_runs.py")],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.folder / "workflow")},
            input=json.dumps(requests, default=str),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return [(status, output) for status, output in json.loads(done.stdout)]


def listed(status: int, output: str) -> dict[str, int]:
    """How many jobs of each rule a dry run lists."""
    assert status == 0, output
    if "Nothing to be done" in output:
        return {}
    table = output.partition("Job stats:")[2].partition("total")[0]
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.M)}


def copy_project(folder: Path, warm: bool = True) -> Workflow:
    """Copy what git would give a user, without results."""
    for name in ("Snakefile", "workflow", "config", "profiles", "envs", "results/published"):
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    for own in ("own_net.py", "fake_peer.py"):
        shutil.copy2(ROOT / "tests" / own, folder)
    workflow = Workflow(folder, warm)
    workflow.configure("tiny.yaml", TINY)
    return workflow
