"""Files are whole or absent; whatever a disk says is one message; nothing changed is read."""

from __future__ import annotations

import errno
import math
import os
import resource
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from flowquant.report.tables import write_table
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import (
    REFUSALS,
    atomic,
    read_json,
    regular,
    remove,
    sha256,
    temporary,
    temporary_folder,
    write_json,
    write_text,
)
from flowquant.runtime.tensors import read_tensors, write_tensors
from project import ROOT


@pytest.mark.parametrize("number", REFUSALS)
def test_every_way_a_disk_says_no(number: int, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("before")
    found = REFUSALS[number][0]
    with pytest.raises(UserError, match=f"out.json: found {found}"), atomic(path):
        raise OSError(number, "said the disk")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path, found in (
        ("folder", "a folder"),
        ("file/out", "a file where a folder should be"),
        ("x" * 300, "a name too long"),
    ):
        with pytest.raises(UserError, match=f"found {found}"):
            write_text(tmp_path / path, "content")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}


def test_an_unreadable_input_is_no_fault_of_the_output(tmp_path: Path) -> None:
    other = tmp_path / "elsewhere/input.png"
    with pytest.raises(PermissionError), atomic(tmp_path / "out"):
        raise PermissionError(errno.EACCES, "no", str(other))


def test_a_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".json")
    write_text(path, "content")
    assert path.read_text() == "content"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_result_holds_what_is_no_number(number: float, tmp_path: Path) -> None:
    content = {"variant": "full", "scores": [{"fid": 1.0}, {"fid": number}]}
    with pytest.raises(UserError, match=r"for `scores.1.fid`; expected a finite number"):
        write_json(tmp_path / "out.json", content)
    with pytest.raises(UserError, match=r"for `0.fid`"):
        write_table(tmp_path / "out.csv", ["fid"], [{"fid": number}])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_not_read(number: str, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_text(f'{{"fid": [1.0, {number}]}}')
    with pytest.raises(UserError, match=f"found.json: found {number}, which is no finite number"):
        read_json(path, dict[str, list[float]])


def test_a_changed_tensor_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "out.safetensors"
    write_tensors(path, {"a": torch.arange(8)}, {"name": "x"})
    tensors, metadata = read_tensors(path)
    assert tensors["a"].tolist() == list(range(8))
    assert metadata["name"] == "x"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"found content with SHA-256 .* as its metadata says"):
        read_tensors(path)


def test_a_file_too_large_for_its_place(tmp_path: Path) -> None:
    """What the system itself says, to plain files and to tensors."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(UserError, match=r"out.txt: found a file too large"):
            write_text(tmp_path / "out.txt", "x" * 5000)
        with pytest.raises(UserError, match=r"out.safetensors: found a file too large"):
            write_tensors(tmp_path / "out.safetensors", {"a": torch.zeros(5000)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


HOLDER = """
import sys, time
from contextlib import nullcontext
from pathlib import Path
from flowquant.runtime.files import atomic

with atomic(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def writing(path: Path) -> subprocess.Popen[str]:
    """A process in the middle of writing a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        cwd=ROOT / "workflow",
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == "writing\n"
    return process


def test_what_killed_processes_left_in_folders_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    with temporary_folder(path) as first:
        (first / "file").touch()
        with temporary_folder(path) as second:
            assert {first, second} == set(tmp_path.iterdir())
            # As if its process had been killed: nobody holds it.
            left = second.rename(tmp_path / f"{second.name}left")
            (left / "file").touch()
        assert left.exists()
        write_text(path, "whole")
        assert {first, path} == set(tmp_path.iterdir())
        assert (first / "file").exists()


@pytest.mark.parametrize("end", ["write", "remove"])
def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path, end: str) -> None:
    path, other = tmp_path / "out.json", tmp_path / "other.json"
    processes = [writing(path), writing(path), writing(other)]
    for process in processes[:2]:
        process.kill()
        process.wait()
    living = processes[2]
    try:
        (tmp_path / ".mine.json").write_text("by hand")
        assert len(list(tmp_path.iterdir())) == 4
        write_text(path, "whole") if end == "write" else remove(path)
        left = {item.name for item in tmp_path.iterdir()}
        assert len(left) == (3 if end == "write" else 2)
        assert ".mine.json" in left
        write_text(other, "whole")
        assert len(list(tmp_path.iterdir())) == len(left) + 1
    finally:
        living.kill()
        living.wait()
    write_text(other, "whole")
    assert len(list(tmp_path.iterdir())) == len(left)


def test_without_locks_nothing_of_others_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr("fcntl.flock", none)
    path = tmp_path / "out"
    with temporary(path, "") as first:
        write_text(path, "content")
        assert first.exists()
    assert list(tmp_path.iterdir()) == [path]


def test_one_that_was_taken_before_it_was_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Path] = []

    def lock(descriptor: int, _: int) -> None:
        if not taken:
            taken.append(next(tmp_path.iterdir()))
            taken[0].unlink()

    monkeypatch.setattr("fcntl.flock", lock)
    write_text(tmp_path / "out", "content")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


INTERRUPTED = """
import os, signal, sys
from contextlib import nullcontext
from pathlib import Path
from flowquant.config.command_line import run
from flowquant.runtime import files, interrupt

interrupt.prepare("sample")


def write() -> None:
    block = getattr(files, sys.argv[1])(Path("out"), *sys.argv[2:])
    unfinished = block.__enter__()
    if unfinished.is_dir():
        (unfinished / "more").touch()
    assert len(os.listdir()) == 1
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt as error:
        # As amid contextlib's own lines: the block is still there, and nobody leaves it.
        raise KeyboardInterrupt(str(block.gen.gi_frame is None)) from error


run(write, "sample", [])
"""


@pytest.mark.parametrize("made", [("temporary", ".json"), ("temporary_folder",), ("atomic",)])
def test_an_interruption_between_lines_leaves_nothing(made: tuple[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *made],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT / "workflow")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "interrupted: sample: False\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("end", [KeyboardInterrupt, ValueError, None])
def test_a_temporary_folder_ends_with_its_block(
    end: type[BaseException] | None, tmp_path: Path
) -> None:
    with pytest.raises(end) if end else nullcontext(), temporary_folder(tmp_path / "out") as made:
        (made / "folder").mkdir()
        (made / "folder/file").write_text("content")
        if end:
            raise end
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "device", "folder"])
def test_what_is_no_file_is_neither_read_nor_replaced(kind: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    paths = {"pipe": "fifo", "link to a pipe": "link", "device": "/dev/zero", "folder": "."}
    path = tmp_path / paths[kind]
    found = kind.rsplit(" a ", maxsplit=1)[-1]
    signal.alarm(20)  # Nothing waits for a pipe's other end.
    try:
        for use in (regular, sha256, lambda path: write_text(path, "content")):
            with pytest.raises(UserError, match=f"found a {found}; expected a file"):
                use(path)
    finally:
        signal.alarm(0)
    assert {item.name for item in tmp_path.iterdir()} == {"fifo", "link"}
    assert regular(tmp_path, or_folder=True) == tmp_path
    assert regular(tmp_path / "nothing/yet") == tmp_path / "nothing/yet"


def test_text_that_is_longer_than_any_of_ours_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    with path.open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(UserError, match=r"found.json: found more than 67,108,864 bytes"):
        read_json(path, dict[str, float])
