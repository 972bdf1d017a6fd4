"""Files are whole or absent; whatever a disk says is one message; nothing changed is read."""

from __future__ import annotations

import errno
import math
from pathlib import Path

import pytest
import torch

from flowquant.report.tables import write_table
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import REFUSALS, atomic, read_json, write_json, write_text
from flowquant.runtime.tensors import read_tensors, write_tensors


@pytest.mark.parametrize("number", REFUSALS)
def test_every_way_a_disk_says_no(number: int, tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("before")
    found = REFUSALS[number][0]
    with pytest.raises(UserError, match=f"out.json: found {found}"), atomic(path):
        raise OSError(number, "said the disk")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_tensor_file_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors raises an error of its own."""
    from safetensors import SafetensorError

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(UserError, match=r"out.safetensors: found a full disk"):
        write_tensors(tmp_path / "out.safetensors", {"a": torch.zeros(1)}, {})
    assert not list(tmp_path.iterdir())


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
    with pytest.raises(UserError, match=f"found.json: found {number}, which is no number"):
        read_json(path)


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
