"""What the documents and docstrings show runs, and finds what it says."""

import doctest
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import flowquant
from flowquant.runtime.digest import PACKAGE
from project import ROOT

EXAMPLES = [flowquant.__name__, *{getattr(flowquant, n).__module__ for n in flowquant.__all__}]


def blocks(document: str, language: str) -> str:
    text = (ROOT / document).read_text(encoding="utf-8")
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S))


@pytest.mark.parametrize("module", sorted(EXAMPLES))
def test_docstrings(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    found = doctest.testmod(import_module(module), optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert not found.failed


class MyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 3, 3, padding=1)
        self.table = nn.Embedding(4, 3)

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.body(x) + self.table(y)[..., None, None] * t.view(-1, 1, 1, 1)


def points(count: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(count, 3, 8, 8), torch.rand(count), torch.arange(count) % 4


def test_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = blocks("README.md", "python").replace("3000", "3").replace("100", "2")
    names = {"model": MyNet(), "points": points, "MyNet": MyNet, "labels": [0, 1, 2]}
    exec(code, names)
    assert names["images"].shape == (3, 3, 32, 32)  # type: ignore[attr-defined]


def test_the_manual_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(blocks("docs/howto/python.md", "python"), {})


def test_the_shell(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = MyNet().state_dict() | {"steps": torch.tensor(3001)}
    save_file(weights, tmp_path / "model.safetensors")
    lines = [line.partition("#")[0] for line in blocks("docs/howto/python.md", "bash").splitlines()]
    for line in lines:
        done = subprocess.run(
            [sys.executable, "-m", *shlex.split(line)],
            cwd=tmp_path,
            env={"PYTHONPATH": str(PACKAGE.parent)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
    plain = load_file(tmp_path / "plain.safetensors")
    assert plain.keys() == weights.keys()
    assert plain["body.weight"].dtype == torch.float16
    assert len(plain["body.weight"][0].unique()) <= 4
    assert plain["steps"].equal(weights["steps"])
