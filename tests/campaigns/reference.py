"""A tiny run that has every stage: its command lines, their inputs, and what they make."""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import json
import os
import pickle
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from campaigns.trial import Ending, beside, run
from everything import EVERYTHING, RUN, others
from flowquant.config.shell import START
from flowquant.runtime.tensors import read_tensors
from image_files import encoded, write_tar
from originals import PRESETS, write_originals
from project import Workflow, copy_project

# Of a trial, in a command line.
HERE = "{folder}"


@dataclass(frozen=True)
class Command:
    """A stage's command line, and what it makes of its inputs."""

    name: str
    words: tuple[str, ...]
    inputs: tuple[str, ...]  # files, by their path in the run's folder
    outputs: dict[str, str]  # path: digest, but for what clocks show
    folders: frozenset[str]
    seconds: float
    peak: int

    @property
    def stage(self) -> str:
        """The stage alone."""
        return " ".join(self.words[: 2 if self.words[0] == "dataset" else 1])


class Reference:
    """The finished tiny run, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run = folder / "run"
        self.commands: list[Command] = []
        self._modules: list[str] = []
        self._count = 0

    def make(self) -> None:
        """Run every stage once, in order, and keep what it made, for the next time too."""
        kept = self.folder / "reference.pickle"
        if kept.exists():
            self.commands, self._modules = pickle.loads(kept.read_bytes())
            self._import(self._modules)
            return
        self.run.mkdir(parents=True)
        self.workflow = copy_project(self.run)
        data = self.run / "data"
        write_originals(data)
        _write_many_images(data)
        mirror = self.run / "weights.pth"
        mirror.write_bytes(b"stand-in for Inception's weights")
        # Trials have folders of their own, where the class is found by its module's name.
        by_module = json.dumps(EVERYTHING).replace("own_net.py:", "own_net:")
        self.workflow.configure("everything.yaml", json.loads(by_module))
        self.workflow.configure("others.yaml", others(mirror))
        downloads = [f"results/data/{name}.safetensors" for name in (*PRESETS, "digits")]
        downloads.append("results/data/inception-v3-compat.pth")
        samples = [f"{RUN}/sampling/{name}/full/seed0.safetensors" for name in PRESETS]
        imports = ["check", f"{RUN}/models/imported_model.safetensors"]
        for targets, config in (
            (["all", "sweep"], ("everything.yaml",)),
            ([*downloads, *imports, *samples], ("everything.yaml", "others.yaml")),
        ):
            for line in planned(self.workflow, targets, config):
                self._add(line, keep=True)
        for words in list(self._more()):
            self._add(words, keep=False)
        kept.write_bytes(pickle.dumps((self.commands, self._modules)))

    def _import(self, modules: Sequence[str]) -> None:
        for name in modules:
            with suppress(Exception):
                importlib.import_module(name)

    def _add(self, said: Sequence[str], keep: bool) -> None:
        words = tuple(
            word.replace(f"file://{self.run}", f"file://{HERE}").replace(f"{self.run}/", "")
            for word in said
        )
        if any(words == command.words for command in self.commands):
            return
        # What the same stage made of the same dataset is there already.
        made_before = {p for c in self.commands if c.words[0] == words[0] for p in c.outputs}
        inputs = tuple(path for path in self._inputs(words) if path not in made_before)
        command = Command(_name(words), words, inputs, {}, frozenset(), 0.0, 0)
        folder, ending, learned = self._try(command)
        if learned:  # now it takes as long as it will
            self.drop(folder)
            folder, ending, _ = self._try(command)
        outputs = {path: digest(folder / path) for path in made(folder, command)}
        if keep:
            for path in outputs:
                (self.run / path).parent.mkdir(parents=True, exist_ok=True)
                os.link(folder / path, self.run / path)
        self.commands.append(
            replace(
                command,
                outputs=outputs,
                folders=frozenset(folders(folder)),
                seconds=ending.seconds,
                peak=ending.peak,
            )
        )
        self.drop(folder)

    def _try(self, command: Command) -> tuple[Path, Ending, bool]:
        """Run a command, and import what it imported; whether there was anything."""
        folder = self.fresh(command)
        learned = beside(folder, ".modules")
        ending = run(folder, spoken(command, folder), learned=learned)
        assert ending.code == 0, (command.words, ending)
        modules = learned.read_text().splitlines()
        self._modules += modules
        self._import(modules)
        return folder, ending, bool(modules)

    def _inputs(self, words: Sequence[str]) -> Iterator[str]:
        for word in words[1:]:
            for part in (word, word.partition("=")[2]):
                name = part.replace(f"file://{HERE}/", "")
                path = self.run / name
                if not name or name == "." or not path.exists():
                    continue
                files = [path] if path.is_file() else sorted(path.rglob("*"))
                yield from (str(f.relative_to(self.run)) for f in files if f.is_file())

    def _more(self) -> Iterator[tuple[str, ...]]:
        """What the tiny run does not say: states kept after every step, helpers, checkpoints."""
        by_name = {command.name: command.words for command in self.commands}
        train = by_name["train tiny_idx"]
        often = "--checkpoint-seconds=0"
        yield (*_without(train, "--training.epochs"), "--training.epochs=12", often)
        refine = next(w for n, w in by_name.items() if n.startswith("refine"))
        yield (*refine, often)
        yield (*_without(refine, "--devices"), "--devices=2")
        yield (*_without(train, "--devices"), "--devices=2")
        yield (*_without(by_name["sample tiny_idx full"], "--devices"), "--devices=2")
        images = by_name["dataset images"]
        yield (
            *_without(images, "--source.path", "--threads"),
            "--source.path=many.tar.xz",
            "--threads=2",
        )
        quantized = self.run / RUN / "quantized_models/tiny_idx/refined/2bit.safetensors"
        yield ("inspect", str(quantized))
        model, _ = read_tensors(self.run / RUN / "models/tiny_idx_model.safetensors")
        torch.save(model, self.run / "published.pt")
        imported = by_name["import_model imported"]
        yield (*_without(imported, "--checkpoint"), "--checkpoint=published.pt")

    def fresh(self, command: Command, name: str = "") -> Path:
        """A folder with a command's inputs in it, as links to the run's own files."""
        self._count += 1
        folder = self.folder / (name or f"trial{os.getpid()}-{self._count}")
        folder.mkdir()
        for path in command.inputs:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / path).exists():
                os.link(self.run / path, folder / path)
        return folder

    def drop(self, folder: Path) -> None:
        """Remove a trial's folder and what lies beside it."""
        shutil.rmtree(folder, ignore_errors=True)
        for suffix in (".out", ".err", ".modules"):
            beside(folder, suffix).unlink(missing_ok=True)


def _name(words: Sequence[str]) -> str:
    """A command's stage, and what it is about."""
    count = 2 if words[0] == "dataset" else 1
    about = [
        word.partition("=")[2]
        for option in ("--dataset", "--variant", "--metric")
        for word in words
        if word.startswith(f"{option}=")
    ]
    return " ".join([*words[:count], *about])


def _without(words: Sequence[str], *options: str) -> tuple[str, ...]:
    return tuple(word for word in words if word.partition("=")[0] not in options)


def _write_many_images(data: Path) -> None:
    """More than one process decodes at a time."""
    files = {
        f"{part}/{name}/{index}.png": encoded(index)
        for part in ("train", "test")
        for name in ("cat", "dog")
        for index in range(70)
    }
    write_tar(data / "many.tar.xz", files)


def spoken(command: Command, folder: Path) -> list[str]:
    """A command line for a trial's folder."""
    return [word.replace(HERE, str(folder)) for word in command.words]


def planned(
    workflow: Workflow, targets: Sequence[str], config: tuple[str, ...]
) -> Iterator[list[str]]:
    """The stages' command lines that Snakemake would run, in order."""
    done = workflow.snakemake("-n", "-p", "--forceall", *targets, config=config)
    assert done.returncode == 0, done.stdout[-3000:]
    for line in re.findall(f"{re.escape(START)} (.*)", done.stdout):
        words = re.sub(r" (2>&1 \| tee|2>) \S+$", "", line.rstrip())
        yield shlex.split(words)


def made(folder: Path, command: Command) -> list[str]:
    """Files in a trial's folder that are no inputs."""
    files = (str(p.relative_to(folder)) for p in sorted(folder.rglob("*")) if not p.is_dir())
    return [path for path in files if path not in command.inputs]


def folders(folder: Path) -> set[str]:
    """All folders in a trial's."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_dir()}


def digest(path: Path) -> str:
    """Of a file's content, without what clocks show."""
    content = path.read_bytes()
    with suppress(ValueError):
        if path.suffix == ".json":
            content = json.dumps(_timeless(json.loads(content))).encode()
        elif path.suffix == ".jsonl":
            rows = [_timeless(json.loads(line)) for line in content.splitlines()]
            content = json.dumps(rows).encode()
        elif path.suffix == ".csv":
            table = csv.DictReader(io.StringIO(content.decode()))
            content = json.dumps(_timeless(list(table))).encode()
    return hashlib.sha256(content).hexdigest()


def _timeless(content: Any) -> Any:
    if isinstance(content, dict):
        return {k: _timeless(v) for k, v in content.items() if "seconds" not in k}
    return [_timeless(item) for item in content] if isinstance(content, list) else content
