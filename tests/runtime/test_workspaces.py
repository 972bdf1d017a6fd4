"""Processes that sample ask for no workspaces; what a user set stays."""

import os
from pathlib import Path

import pytest

from flowquant.config.sampling import SamplingConfig
from flowquant.runtime import workspaces
from flowquant.stages.sample import sample
from tiny import write_tiny_model

VARIABLES = "CUBLAS_WORKSPACE_CONFIG", "CUBLASLT_WORKSPACE_SIZE"


def test_sampling_asks_for_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is as before when the test has ended
        monkeypatch.delenv(name)
    model = write_tiny_model(tmp_path)
    sample(model, tmp_path / "grid.png", sampling=SamplingConfig(steps=1, per_class=1))
    assert [os.environ[name] for name in VARIABLES] == [":0:0", "0"]


def test_what_a_user_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, "a user's")
    workspaces.do_without()
    assert [os.environ[name] for name in VARIABLES] == ["a user's"] * 2
