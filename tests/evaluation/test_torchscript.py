"""Tensors of TorchScript files: the same as PyTorch reads, and nothing executed."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from flowquant.evaluation.torchscript import is_torchscript, read_torchscript


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).half()
        self.last = nn.Linear(4, 2, bias=False)
        self.scale = nn.Parameter(torch.randn(()))
        self.register_buffer("table", torch.arange(6).view(2, 3).T)
        self.sizes = [1, 2]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).float()) * self.scale


def write_script(path: Path, network: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is on its way out
        torch.jit.save(torch.jit.script(network), path)


def test_the_tensors_are_the_state_dict(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Net().eval()
    write_script(tmp_path / "script.pt", network)
    found, wanted = read_torchscript(tmp_path / "script.pt"), network.state_dict()
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].equal(tensor), name


def test_what_is_torchscript(tmp_path: Path) -> None:
    write_script(tmp_path / "script.pt", Net())
    torch.save({"a": torch.zeros(2)}, tmp_path / "plain.pt")
    (tmp_path / "no.pt").write_bytes(b"no archive")
    said = [is_torchscript(tmp_path / name) for name in ("script.pt", "plain.pt", "no.pt")]
    assert said == [True, False, False]


def test_nothing_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "executed"),))

    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("evil/constants.pkl", b"")
        archive.writestr("evil/data.pkl", pickle.dumps(Evil()))
    assert is_torchscript(path)
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        read_torchscript(path)
    assert not (tmp_path / "executed").exists()
