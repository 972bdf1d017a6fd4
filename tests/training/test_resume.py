"""What is kept of an unfinished run, and what never is."""

import os
import signal
from pathlib import Path

import pytest
import torch

from flowquant.training.resume import Keeper, is_finite, load_state, save_state

CPU = torch.device("cpu")


def test_finite_states() -> None:
    good = {"a": [torch.zeros(2), {"b": torch.ones(3).int()}], "best": float("inf"), "c": None}
    assert is_finite(good)
    for bad in (float("nan"), float("-inf")):
        assert not is_finite(good | {"d": ({"e": torch.tensor([0.0, bad])},)})


def test_a_state_that_is_not_finite_leaves_the_last_good_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, value = tmp_path / "state.pt", torch.zeros(3)

    def kept() -> list[float]:
        state = load_state(path, "run", CPU)
        assert state is not None
        return state["value"].tolist()

    with Keeper(path, "run", lambda: {"value": value}, seconds=0) as keep:
        keep()
        value[1] = torch.nan
        keep()
        assert kept() == [0, 0, 0]
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(SystemExit) as ended:
            keep()
    assert ended.value.code == 143
    assert "kept the last good state, if any" in capsys.readouterr().err
    assert kept() == [0, 0, 0]
    assert load_state(path, "another run", CPU) is None


def test_an_interrupted_run_keeps_its_state(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    former = signal.getsignal(signal.SIGINT)
    with Keeper(path, "run", lambda: {"value": torch.ones(1)}, seconds=1000) as keep:
        keep()
        assert not path.exists()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt, match=f"kept the state in {path}"):
            keep()
    assert load_state(path, "run", CPU) is not None
    assert signal.getsignal(signal.SIGINT) is former


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x80\x02}q\x00."])
def test_a_damaged_state_is_no_state(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state.pt"
    path.write_bytes(content)
    assert load_state(path, "run", torch.device("cpu")) is None
    assert "no state to resume from" in capsys.readouterr().err
    path.unlink()
    path.mkdir()
    assert load_state(path, "run", torch.device("cpu")) is None


def test_a_run_outlives_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "state.pt"
    save_state(path, "run", {"step": 1})

    def full(*_: object) -> None:
        raise RuntimeError("unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with Keeper(path, "run", lambda: {"step": 2}, seconds=0) as keep:
        keep()
    assert "could not keep the state" in capsys.readouterr().err
    assert load_state(path, "run", torch.device("cpu")) == {"step": 1}
