"""A network class of the user's own is measured as the families are."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flowquant.config.custom import CustomConfig
from flowquant.config.sampling import SolverConfig
from flowquant.runtime import own_code
from flowquant.runtime.errors import UserError
from flowquant.stages.benchmark import benchmark
from tiny import TINY_MODEL, TRAINING


def measured(folder: Path, class_: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(own_code.ALLOWED, class_)
    own = CustomConfig(family="custom", class_=class_, call="t, x, labels=y", null_class=3)
    benchmark(
        output=folder / "speed.json",
        table=folder / "speed.md",
        dataset="tiny",
        model=replace(TINY_MODEL, network=own),
        training=TRAINING,
        solver=SolverConfig(steps=2),
        images=4,
        batch=4,
        extractor="classifier",
        seconds=0.5,
        device="cpu",
    )
    return folder / "speed.json"


def test_a_class_that_computes_what_meta_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = json.loads(measured(tmp_path, "own_net:Particular", monkeypatch).read_text())
    assert report["network"]["flops_an_image"] > 2 * 64 * 32 * 32 * 9
    assert report["rows"][0]["project"]["tflops"] > 0


def test_a_class_that_does_not_do_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"network\.call`: found 't, x, labels=y', with which"):
        measured(tmp_path, "torch.nn:Identity", monkeypatch)
    assert not [*tmp_path.iterdir()]
