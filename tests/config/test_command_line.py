"""Settings survive the way to a stage and back, through a shell."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import tyro

from flowquant.config.classifier import ClassifierConfig
from flowquant.config.command_line import options, run
from flowquant.config.comparisons import ComparisonsSection
from flowquant.config.method import MethodConfig
from flowquant.config.model import ModelConfig
from flowquant.config.network import Network
from flowquant.config.preset import Preset
from flowquant.config.reading import check, merged, read_yaml
from flowquant.config.refinement import RefineConfig
from flowquant.config.sampling import SamplingConfig, SweepConfig
from flowquant.config.shell import START, Shell
from flowquant.config.training import TrainingConfig
from project import ROOT
from tiny import TINY_MODEL, TINY_NETWORKS

PRESETS = check(
    merged(read_yaml(ROOT / "config/datasets.yaml"), read_yaml(ROOT / "config/config.yaml"))
).presets
NASTY = ["$(touch PWNED)", "`touch PWNED`", "a b", 'it\'s "so"', "-a", "{x}", "a;b", "ü\\n", "*"]


def read_back(kind: type, words: list[str]) -> Any:
    """What a stage with a parameter ``given`` of this type is called with."""

    def stage(given: Any) -> Any:
        return given

    stage.__annotations__["given"] = kind
    config = (tyro.conf.FlagConversionOff, tyro.conf.CascadeSubcommandArgs)
    return tyro.cli(stage, args=words, config=config)


def parts_of(preset: Preset) -> list[tuple[type, Any]]:
    found = [
        (ModelConfig, preset),
        (TrainingConfig, preset.training),
        (SamplingConfig, preset.sampling),
        (type(preset.source), preset.source),
    ]
    return found + ([(ClassifierConfig, preset.classifier)] if preset.classifier else [])


@pytest.mark.parametrize("name", PRESETS)
def test_a_stage_gets_what_was_configured(name: str) -> None:
    for kind, section in parts_of(PRESETS[name]):
        found = read_back(kind, options("given", kind, section))
        for field in fields(kind):
            assert getattr(found, field.name) == getattr(section, field.name)


@pytest.mark.parametrize("network", TINY_NETWORKS.values(), ids=TINY_NETWORKS)
def test_a_stage_gets_the_family_that_was_configured(network: Network) -> None:
    model = replace(TINY_MODEL, network=network)
    assert read_back(ModelConfig, options("given", ModelConfig, model)) == model


def test_more_sections_survive() -> None:
    for section in (
        MethodConfig(levels="lloyd", granularity="group:8", keep=("a.*", "b c")),
        RefineConfig(steps=3, assignments="trained", data="trajectories"),
        SweepConfig(solvers=("heun",), tolerances=(1e-300, 1.0)),
        ComparisonsSection(pairs=(("ot/2bit", "full"), ("a/1bit", "b/1bit"))),
        ComparisonsSection(usual=False, over=("samples", "training seeds")),
    ):
        assert is_dataclass(section)
        assert read_back(type(section), options("given", type(section), section)) == section


def test_a_field_comes_from_the_first_section_that_has_it() -> None:
    @dataclass
    class Both:
        a: int
        b: int

    @dataclass
    class One:
        a: int

    assert options("x", Both, One(a=1), Both(a=2, b=3)) == ["--x.a=1", "--x.b=3"]


@pytest.mark.parametrize("text", NASTY)
def test_no_field_is_run_by_a_shell(text: str, tmp_path: Path) -> None:
    """Every field of a stage's command arrives as it was configured."""
    from snakemake.utils import format as formatted

    shell = Shell(tmp_path / "a b", own_environment=True)
    command = shell.stage("sample", "--one={params.text} {params.words} --two={input}")
    line = formatted(
        command,
        params=type("Params", (), {"text": text, "words": [f"--w={text}", text]}),
        input=text,
        log="/dev/null",
        stepout=1,
    )
    line = line.replace(START, "printf '%s\\0'")
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, check=True)
    found = done.stdout.decode().split("\0")[:-1]
    assert found == ["sample", f"--one={text}", f"--w={text}", text, f"--two={text}"]
    assert not list(tmp_path.iterdir())


def test_a_list_quotes_each_of_its_items() -> None:
    shell = Shell(Path("/x"), own_environment=True)
    assert "{params.a:q} --b={input.c:q} 2> {log:q}" in shell.stage("s", "{params.a} --b={input.c}")
    assert shell.stage("s", "{input}", follow=True).endswith("{input:q} 2>&1 | tee {log:q}")


def test_a_command_names_neither_checkout_nor_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a moved one would make everything stale."""
    commands = set()
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setattr(sys, "executable", str(tmp_path / name / "bin/python"))
        monkeypatch.setenv("PYTHONPATH", name)
        commands.add(Shell(tmp_path / name / "workflow", False).stage("sample", "{input}"))
    assert len(commands) == 1


STAGE = """
import time
from flowquant.config.command_line import run

def stage() -> None:
    print("at work", flush=True)
    time.sleep(60)

run(stage, "sample", [])
"""


def test_an_interrupted_stage_says_so_in_a_line() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STAGE],
        cwd=ROOT / "workflow",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted: sample\n")


def said(stage: Any, *words: str) -> str:
    """What a stage's command says as it ends."""
    with pytest.raises(SystemExit) as end:
        run(stage, "sample", words)
    return str(end.value)


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError, IsADirectoryError, OSError])
def test_what_the_system_says_of_a_file_is_a_message(error: type[OSError]) -> None:
    def stage() -> None:
        raise error(5, "no such luck", "/in/put.json")

    expected = "error: /in/put.json: found 'no such luck', said by the system; expected"
    assert said(stage).startswith(expected)


def test_too_little_memory_is_a_message() -> None:
    class OutOfMemoryError(RuntimeError):
        pass

    for error in (
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
        OSError(12, "Cannot allocate memory"),
    ):

        def stage() -> None:
            raise error  # noqa: B023 it is called in this round of the loop

        assert said(stage).startswith("error: sample: found too little memory (")


def test_other_errors_keep_their_traceback() -> None:
    def stage() -> None:
        raise RuntimeError("a mistake of ours")

    with pytest.raises(RuntimeError, match="a mistake of ours"):
        run(stage, "sample", [])


def test_no_stage_opens_a_pipe_or_a_device(tmp_path: Path) -> None:
    def stage(one: Path, many: tuple[Path, ...] = (), folder: Path | None = None) -> None:
        raise AssertionError

    os.mkfifo(tmp_path / "fifo")
    file = str(tmp_path / "file")
    pipe = f"error: {tmp_path / 'fifo'}: found a pipe; expected a file"
    assert said(stage, "--one", str(tmp_path / "fifo")).startswith(pipe)
    assert said(stage, "--one", file, "--many", file, str(tmp_path / "fifo")).startswith(pipe)
    assert "/dev/zero: found a device" in said(stage, "--one", "/dev/zero")
    with pytest.raises(AssertionError):
        run(stage, "sample", ["--one", file, "--folder", str(tmp_path)])
