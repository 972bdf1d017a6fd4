"""Training on two devices, here CPUs: the same batches, the same curve, one process that speaks."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from torch import Tensor

from flowquant.config.model import ModelConfig
from flowquant.config.training import TrainingConfig
from flowquant.models.model import read_model
from flowquant.runtime.errors import UserError
from flowquant.stages.train import train
from flowquant.training.distributed import Draws, Group
from project import ROOT
from tiny import TRAINING

CONFIG = replace(TRAINING, epochs=3, schedule="plateau")

# The weights, and the rows of the curve.
Found = tuple[dict[str, Tensor], list[dict[str, Any]]]


def run(
    folder: Path, data: Path, model: ModelConfig, config: TrainingConfig = CONFIG, devices: int = 1
) -> Found:
    train(
        data=data,
        output=folder / "model.safetensors",
        report=folder / "model.json",
        curve=folder / "curve.jsonl",
        checkpoint=folder / "checkpoint.pt",
        dataset="x",
        model=model,
        training=config,
        device="cpu",
        devices=devices,
    )
    curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return read_model(folder / "model.safetensors")[0], curve


def without_dropout(model: ModelConfig) -> ModelConfig:
    network: Any = model.network
    return replace(model, network=replace(network, dropout=0.0))


def assert_alike(one: Found, two: Found, tolerance: float) -> None:
    for row, other in zip(*(found[1] for found in (one, two)), strict=True):
        for key in ("train_loss", "validation_loss"):
            assert row[key] == pytest.approx(other[key], rel=tolerance)


def test_two_devices_train_as_one_does(tmp_path: Path, data: Path, tiny_model: ModelConfig) -> None:
    model = without_dropout(tiny_model)
    one, two = (run(tmp_path / str(n), data, model, devices=n) for n in (1, 2))
    assert_alike(one, two, 1e-5)
    # All together: a key's bias has no gradient but rounding, which AdamW makes steps of.
    weights, others = (torch.cat([w.flatten() for w in found[0].values()]) for found in (one, two))
    assert (weights - others).norm() < 1e-4 * weights.norm()
    assert not (tmp_path / "2/checkpoint.pt").exists()
    # With dropout each device drops other values, and learns as much.
    one, two = (run(tmp_path / f"dropout{n}", data, tiny_model, devices=n) for n in (1, 2))
    assert one[1] != two[1]
    assert_alike(one, two, 0.05)


def test_draws_are_the_whole_batchs_and_dropout_is_each_devices_own() -> None:
    torch.manual_seed(0)
    drawn, dropped = {}, []
    for rank, size in ((0, 1), (0, 2), (1, 2)):
        draws = Draws(Group(rank, size), torch.device("cpu"))
        draws.start(5, "step", 7)
        drawn[rank, size] = draws.uniform(8 // size), draws.normal(torch.Size([8 // size, 3]))
        dropped.append(torch.nn.functional.dropout(torch.ones(64)))
    for whole, *parts in zip(drawn[0, 1], drawn[0, 2], drawn[1, 2], strict=True):
        assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(dropped[1], dropped[2])


# A run of two devices that ends in some other way, as a process of its own: the exit code counts.
ENDING = """
import json, os, signal, sys
from pathlib import Path
from test_distributed import CONFIG, replace, run
from flowquant.runtime.errors import UserError
from flowquant.models.model import ModelConfig
from flowquant.training.flow_matching import Training
import flowquant.stages.train

folder, data, kind = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
model = ModelConfig.from_dict(json.loads(sys.argv[4]))
config = CONFIG
original, taken = Training.step, []

def step(self, *arguments):
    taken.append(1)
    if len(taken) == 7:
        os.kill(os.getpid(), signal.SIGTERM)
    return original(self, *arguments)

def broken(*arguments):
    raise RuntimeError("no memory left on the second device")

if __name__ == "__main__" and kind == "killed":
    Training.step = step
if __name__ != "__main__" and kind == "broken":
    flowquant.stages.train.fit_and_held_out = broken
if kind == "bad":
    config = replace(CONFIG, learning_rate=1e9, clip=None, ema=None)
if __name__ == "__main__":
    try:
        run(folder, data, model, config, devices=2)
    except UserError as error:
        sys.exit(f"error: {error}")
"""


def ends(
    tmp_path: Path, data: Path, model: ModelConfig, kind: str
) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "ending.py"
    script.write_text(ENDING)
    paths = [str(ROOT / name) for name in ("workflow", "tests", "tests/training")]
    return subprocess.run(
        [sys.executable, script, tmp_path / "run", data, kind, json.dumps(asdict(model))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_a_killed_run_of_two_devices_resumes_on_as_many_or_others(
    tmp_path: Path, data: Path, tiny_model: ModelConfig
) -> None:
    model = without_dropout(tiny_model)
    whole = run(tmp_path / "whole", data, model)
    done = ends(tmp_path, data, model, "killed")
    assert done.returncode == 143, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "run/checkpoint.pt").exists()
    for devices in (1, 2):
        resumed = copytree(tmp_path / "run", tmp_path / f"on {devices}")
        assert_alike(whole, run(resumed, data, model, devices=devices), 1e-5)


def test_a_users_mistake_is_reported_once(
    tmp_path: Path, data: Path, tiny_model: ModelConfig
) -> None:
    done = ends(tmp_path, data, tiny_model, "bad")
    assert done.returncode == 1
    assert done.stderr.count("expected a finite loss") == 1
    assert "Traceback" not in done.stderr


def test_a_helper_that_fails_ends_the_run(
    tmp_path: Path, data: Path, tiny_model: ModelConfig
) -> None:
    done = ends(tmp_path, data, tiny_model, "broken")
    assert done.returncode == 1
    assert "no memory left on the second device" in done.stderr
    assert "a helper process ended with 1" in done.stderr


def test_devices_that_cannot_share_a_batch(
    tmp_path: Path, data: Path, tiny_model: ModelConfig
) -> None:
    with pytest.raises(UserError, match=r"training.devices: found 3; expected a divisor of the ba"):
        run(tmp_path, data, tiny_model, devices=3)
