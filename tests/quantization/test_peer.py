"""Programs of peers: what they are given, and what they may not give back."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowquant.quantization.peer import quantize_by_peer, try_out
from flowquant.runtime.errors import UserError
from project import ROOT

FAKE = ROOT / "tests/fake_peer.py"
MATRICES = {"a.weight": torch.randn(6, 8), "kernel": torch.randn(2, 3, 2, 2)}
GOOD = """
import json, sys
import numpy as np
from safetensors.numpy import load_file, save_file
values = load_file(sys.argv[1])
counts = {"package": "p", "tensors": {name: {"codes": 7} for name in values}}
save_file(values, sys.argv[2])
open(sys.argv[3], "w").write(json.dumps(counts))
"""


def by(text: str, tmp_path: Path) -> tuple[dict[str, Tensor], dict[str, dict[str, int]]]:
    program = tmp_path / "by_mine.py"
    program.write_text(text)
    values, counts = quantize_by_peer(program, MATRICES, ["--bits=2"], tmp_path / "x.safetensors")
    return values, counts.tensors


def test_a_program_gets_the_matrices_and_the_words(tmp_path: Path) -> None:
    values, counts = quantize_by_peer(
        FAKE, MATRICES, ["--bits=3", "--group=4", "--double"], tmp_path / "x.safetensors"
    )
    assert counts.package == "fake 1"
    assert counts.tensors["a.weight"] == {"codes": 18, "scales": 8 * 12}
    for name, matrix in MATRICES.items():
        groups, found = matrix.reshape(-1, 4), values[name].reshape(-1, 4)
        step = (groups.amax(1) - groups.amin(1)) / 7
        assert ((found - groups).abs().amax(1) <= step / 2 + 1e-6).all()
        assert values[name].shape == matrix.shape
    # Nothing is left beside the file that is to be made.
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("import json", "import no_such_peer", "peer `mine`: found No module named 'no_such_peer'"),
        (
            "import json",
            "raise SystemExit(3)\nimport json",
            "found a program that fails (exit status 3)",
        ),
        ("import json", "raise OSError('no disk')\nimport json", "(OSError: no disk)"),
        ("import json", "import os; os.kill(os.getpid(), 9)\nimport json", "(exit status -9)"),
        ("save_file(values", "values.popitem()\nsave_file(values", "found missing:"),
        (
            "save_file(values",
            "values = {n: v.ravel() for n, v in values.items()}\nsave_file(values",
            "found of another form: a.weight, float32 [48] for float32 [6, 8]",
        ),
        (
            "save_file(values",
            "values = {n: v.astype('float16') for n, v in values.items()}\nsave_file(values",
            "a.weight, float16 [6, 8] for float32 [6, 8]",
        ),
        (
            "save_file(values",
            "values['kernel'] /= 0\nsave_file(values",
            "infinite values in kernel",
        ),
        ("save_file(values", "#", "found an unreadable file"),
        ("json.dumps(counts)", "'{'", "counts that are unreadable"),
        ('{"codes": 7}', '{"codes": 7.5}', "`tensors.a.weight.codes`"),
        ('{"codes": 7}', '{"codes": -7}', "`tensors.a.weight.codes`"),
        ('{"codes": 7}', '{"codes": 0}', "no bytes for some matrices"),
        ("for name in values", 'for name in ["kernel"]', "no bytes for some matrices"),
    ],
)
def test_a_program_that_does_something_else(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in GOOD
    with pytest.raises(UserError) as error:
        by(GOOD.replace(old, new, 1), tmp_path)
    assert message in str(error.value)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_program_that_does_as_it_should(tmp_path: Path) -> None:
    values, counts = by(GOOD, tmp_path)
    assert all(values[name].equal(matrix) for name, matrix in MATRICES.items())
    assert counts == {name: {"codes": 7} for name in MATRICES}


def test_a_peer_is_tried_out_before_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try_out(FAKE)
    program = tmp_path / "by_theirs.py"
    program.write_text("import no_such_peer")
    with pytest.raises(UserError) as error:
        try_out(program)
    assert "peer `theirs`: found No module named 'no_such_peer'" in str(error.value)
    assert "envs/requirements-peers.txt" in str(error.value)
    assert "Traceback" not in capsys.readouterr().err
    # What else goes wrong is in the log whole.
    program.write_text("1 / 0")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        try_out(program)
    assert "Traceback" in capsys.readouterr().err


def test_no_peer_is_imported_here() -> None:
    assert not {"hqq", "bitsandbytes", "torchao", "optimum", "sdnq"} & set(sys.modules)
