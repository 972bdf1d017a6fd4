"""Training: resumable to the bit, careful with bad losses, honest about the best epoch."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from flowquant.config.model import ModelConfig
from flowquant.config.training import TrainingConfig
from flowquant.data.dataset import Split
from flowquant.models.model import read_model
from flowquant.runtime.errors import UserError
from flowquant.stages.train import hold_out, train
from flowquant.training.flow_matching import Training
from flowquant.training.resume import is_finite
from tiny import TRAINING as CONFIG

CPU = torch.device("cpu")


def run(
    folder: Path, data: Path, model: ModelConfig, config: TrainingConfig = CONFIG, **more: Any
) -> dict[str, Tensor]:
    train(
        data=data,
        output=folder / "model.safetensors",
        report=folder / "model.json",
        curve=folder / "curve.jsonl",
        checkpoint=folder / "checkpoint.pt",
        dataset="squares",
        model=model,
        training=config,
        device="cpu",
        **more,
    )
    return read_model(folder / "model.safetensors")[0]


def test_training_learns_and_writes_its_curve(
    tmp_path: Path, data: Path, tiny_model: ModelConfig
) -> None:
    run(tmp_path, data, tiny_model)
    curve = [json.loads(line) for line in (tmp_path / "curve.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in curve] == [1, 2, 3, 4]
    assert curve[-1]["validation_loss"] < curve[0]["validation_loss"]
    report = json.loads((tmp_path / "model.json").read_text())
    assert report["best_loss"] == min(row["validation_loss"] for row in curve)
    assert report["variant"] == "full"
    assert not (tmp_path / "checkpoint.pt").exists()


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
@pytest.mark.parametrize("ends_at", [8, 13])  # after two epochs of four steps, and amid the fourth
def test_a_killed_run_ends_with_the_same_weights(
    tmp_path: Path,
    data: Path,
    tiny_model: ModelConfig,
    monkeypatch: pytest.MonkeyPatch,
    schedule: Literal["cosine", "plateau"],
    ends_at: int,
) -> None:
    config = replace(CONFIG, schedule=schedule, validation=30)
    whole = run(tmp_path / "whole", data, tiny_model, config)
    original = Training.step
    taken: list[tuple[int, int]] = []

    def counted(self: Training, *args: Any) -> Any:
        if len(taken) == ends_at - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        taken.append((self.progress.epoch, self.progress.step))
        return original(self, *args)

    monkeypatch.setattr(Training, "step", counted)
    folder = tmp_path / "killed"
    with pytest.raises(SystemExit) as ended:
        run(folder, data, tiny_model, config)
    assert ended.value.code == 143
    assert (folder / "checkpoint.pt").exists()
    assert not (folder / "model.safetensors").exists()
    assert len(taken) == ends_at
    resumed = run(folder, data, tiny_model, config)
    assert taken == [(epoch, step) for epoch in range(4) for step in range(4)]
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    curves = [(tmp_path / name / "curve.jsonl").read_text() for name in ("whole", "killed")]
    rows = [[json.loads(line) for line in curve.splitlines()] for curve in curves]
    assert [{**r, "seconds": 0} for r in rows[0]] == [{**r, "seconds": 0} for r in rows[1]]


def test_another_configuration_does_not_resume(
    tmp_path: Path, data: Path, tiny_model: ModelConfig
) -> None:
    folder = tmp_path / "run"
    whole = run(tmp_path / "other", data, tiny_model, replace(CONFIG, learning_rate=2e-3))
    folder.mkdir()
    training = Training(tiny_model, CONFIG, 0, CPU)
    torch.save({"identity": "of another run", **training.state()}, folder / "checkpoint.pt")
    fresh = run(folder, data, tiny_model, replace(CONFIG, learning_rate=2e-3))
    assert all(torch.equal(whole[name], fresh[name]) for name in whole)


def test_a_loss_that_is_not_finite_stops_and_names_the_step(
    tmp_path: Path, data: Path, tiny_model: ModelConfig
) -> None:
    with pytest.raises(UserError, match=r"training step \d+: found a loss of (nan|inf)"):
        run(tmp_path, data, tiny_model, replace(CONFIG, learning_rate=1e9, clip=None, ema=None))
    assert not (tmp_path / "model.safetensors").exists()


def broken_at(step: int, after: bool = False) -> Callable[..., Any]:
    """`Training.step` that breaks the weights before (or after) the step of this number."""
    original, taken = Training.step, []

    def breaking(self: Training, *args: Any) -> Any:
        taken.append(1)
        if len(taken) - 1 == step and not after:
            self._weights.data.fill_(torch.nan)
        found = original(self, *args)
        if len(taken) - 1 == step and after:
            self._weights.data.fill_(torch.inf)
        return found

    return breaking


def test_the_last_good_state_outlives_a_loss_of_nan(
    tmp_path: Path, data: Path, tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint after every step, and weights that break in the third epoch."""
    whole = run(tmp_path / "whole", data, tiny_model)
    folder = tmp_path / "broken"
    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", broken_at(12))
        with pytest.raises(UserError, match="training step 12: found a loss of nan"):
            run(folder, data, tiny_model, checkpoint_seconds=0)
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert is_finite(state)
    assert (state["progress"]["epoch"], state["progress"]["step"]) == (2, 2)  # five steps an epoch
    resumed = run(folder, data, tiny_model)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_weights_that_break_in_the_last_step_are_not_kept(
    tmp_path: Path, data: Path, tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, epochs=1, ema=None)
    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", broken_at(4, after=True))
        with pytest.raises(UserError, match="validation after epoch 1: found a loss of nan"):
            run(tmp_path, data, tiny_model, config, checkpoint_seconds=0)
    assert not (tmp_path / "model.safetensors").exists()
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]["step"] == 4


def test_held_out_rows_are_disjoint_and_keyed() -> None:
    split = Split(torch.zeros(50, 1, 2, 2), torch.zeros(50))
    fit, held_out = hold_out(split, 20, seed=0)
    assert sorted([*fit.tolist(), *held_out.tolist()]) == list(range(50))
    assert torch.equal(held_out, hold_out(split, 20, seed=0)[1])
    assert not torch.equal(held_out, hold_out(split, 20, seed=1)[1])


def test_too_few_images_for_one_batch(tmp_path: Path, data: Path, tiny_model: ModelConfig) -> None:
    with pytest.raises(UserError, match="at least one batch of images besides the held-out ones"):
        run(tmp_path, data, tiny_model, replace(CONFIG, validation=95))
