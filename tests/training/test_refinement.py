"""Refinement: gradients of levels, what it reaches, and resuming after a kill."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flowquant.config.method import MethodConfig
from flowquant.config.model import ModelConfig
from flowquant.config.refinement import RefineConfig
from flowquant.data.dataset import read_dataset
from flowquant.models.model import read_model
from flowquant.quantization.codebook import Codebook
from flowquant.quantization.packed_file import read_quantized
from flowquant.runtime.errors import UserError
from flowquant.stages.quantize import quantize
from flowquant.stages.refine import refine
from flowquant.training import matching, resume
from flowquant.training.refinement import Refinement
from tiny import TINY_MODEL, TINY_NETWORKS, write_tiny_dataset, write_tiny_model

SETTINGS = RefineConfig(
    steps=120,
    batch=32,
    learning_rate=3e-3,
    assignments="fixed",
    value_learning_rate=3e-3,
    damping=0.003,
    rounds=0,
    data="images",
    trajectories=16,
    trajectory_steps=5,
    precision="float32",
    seed=0,
)
TRAINED = replace(SETTINGS, assignments="trained")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    return prepared(tmp_path, TINY_MODEL)


def prepared(folder: Path, config: ModelConfig, bits: int = 2, **changes: Any) -> dict[str, Any]:
    """A network quantized to few bits, and what else the stage `refine` is told of it."""
    model = write_tiny_model(folder, config)
    method = MethodConfig(
        levels="lloyd",
        granularity="row",
        scope="matrices",
        keep=(),
        least_values=5,
        levels_dtype="float16",
        float_dtype="float16",
    )
    method = replace(method, **changes)
    unrefined = folder / "unrefined.safetensors"
    quantize(
        model=model,
        output=unrefined,
        report=folder / "r.json",
        method=method,
        dataset="tiny",
        variant="m/2bit",
        bits=bits,
    )
    return {
        "model": model,
        "unrefined": unrefined,
        "data": write_tiny_dataset(folder),
        "output": folder / "refined.safetensors",
        "report": folder / "refined.json",
        "curve": folder / "curve.jsonl",
        "checkpoint": folder / "state.pt",
        "dataset": "tiny",
        "variant": "m/2bit",
        "device": "cpu",
    }


@pytest.mark.parametrize("settings", [SETTINGS, TRAINED], ids=["fixed", "trained"])
@pytest.mark.parametrize(
    ("bits", "changes"),
    [
        (2, {"granularity": "scaled"}),
        (4, {"granularity": "scaled", "levels": "entropy:0.2", "coding": "ans"}),
        (1, {"granularity": "scaled", "levels": "vector:4"}),
        (2, {"granularity": "network"}),
        (1, {"granularity": "network", "levels": "vector:4"}),
    ],
    ids=["scaled", "entropy", "vectors", "common", "common vectors"],
)
def test_scales_and_vectors_are_refined(
    settings: RefineConfig, bits: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    files = prepared(tmp_path, TINY_MODEL, bits, **changes)
    refine(**files, settings=settings)
    report = json.loads(files["report"].read_text())
    assert report["velocity_error"]["after"] < 0.5 * report["velocity_error"]["before"]
    before, _ = read_quantized(files["unrefined"])
    after, metadata = read_quantized(files["output"])
    assert metadata["effective_bits"] == report["effective_bits"]
    quantized = {n: c for n, c in after.items() if isinstance(c, Codebook)}
    assert len(quantized) >= 5
    for name, content in quantized.items():
        was = before[name]
        assert isinstance(was, Codebook)
        assert content.levels.shape == was.levels.shape
        assert content.scales is not None
        assert was.scales is not None
        assert not content.scales.equal(was.scales)
        assert (content.scales.dtype, content.coding) == (was.scales.dtype, was.coding)


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, data="trajectories"),
        replace(SETTINGS, rounds=1),
        TRAINED,
    ],
)
def test_velocity_error_falls_and_the_file_keeps_its_size(
    files: dict[str, Any], settings: RefineConfig
) -> None:
    refine(**files, settings=settings)
    report = json.loads(files["report"].read_text())
    error = report["velocity_error"]
    assert error["after"] < 0.5 * error["before"]
    before, _ = read_quantized(files["unrefined"])
    after, metadata = read_quantized(files["output"])
    assert metadata["refine"]["steps"] == settings.steps
    assert before.keys() == after.keys()
    for name, content in after.items():
        was = before[name]
        if isinstance(content, Codebook):
            assert isinstance(was, Codebook)
            assert content.levels.dtype == was.levels.dtype
            assert settings.rounds or settings == TRAINED or content.indices.equal(was.indices)
        else:
            assert content.dtype == was.dtype  # type: ignore[union-attr]
    frozen = (content["time_mlp.0.W"] for content in (before, after))
    torch.testing.assert_close(*frozen, rtol=0, atol=0)
    rows = [json.loads(line) for line in files["curve"].read_text().splitlines()]
    assert [row["step"] for row in rows] == [50, 100, 120]
    assert rows[-1]["loss"] < rows[0]["loss"]


@pytest.mark.parametrize("settings", [SETTINGS, TRAINED], ids=["fixed", "trained"])
def test_convolutions_are_refined(tmp_path: Path, settings: RefineConfig) -> None:
    files = prepared(tmp_path, replace(TINY_MODEL, network=TINY_NETWORKS["unet"]))
    refine(**files, settings=replace(settings, steps=30, batch=16))
    error = json.loads(files["report"].read_text())["velocity_error"]
    assert error["after"] < 0.8 * error["before"]
    before, after = (read_quantized(files[name])[0] for name in ("unrefined", "output"))
    kernels = [name for name, content in before.items() if len(content.shape) > 2]
    assert len(kernels) > 10
    for name in kernels:
        was, now = before[name], after[name]
        assert isinstance(was, Codebook)
        assert isinstance(now, Codebook)
        assert len(now.levels) == now.shape[0]
        assert not now.levels.equal(was.levels)


@pytest.mark.parametrize("changes", [{}, {"rounds": 2}, {"assignments": "trained"}])
def test_a_killed_run_ends_as_if_it_had_not_been(
    files: dict[str, Any], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """Killed after 16 of 24 steps, where the last of two rounds is about to begin."""
    monkeypatch.setattr(matching, "LOG_STEPS", 8)
    settings = replace(SETTINGS, steps=24, **changes)
    refine(**files, settings=settings)
    whole = files["output"].read_bytes()
    files["output"].unlink()
    save, saved = resume.save_state, []

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        saved.append(1)
        if len(saved) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(resume, "save_state", save_and_die)
    with pytest.raises(KeyboardInterrupt):
        refine(**files, settings=settings, checkpoint_seconds=0)
    assert not files["output"].exists()
    refine(**files, settings=settings, checkpoint_seconds=1e9)
    assert files["output"].read_bytes() == whole
    assert not files["checkpoint"].exists()


def test_divergence_is_reported(files: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"Lower `refine\.learning_rate`"):
        refine(**files, settings=replace(SETTINGS, steps=10, learning_rate=1e9))


def test_a_checkpoint_keeps_its_keys(files: dict[str, Any]) -> None:
    """Else an unfinished run of an earlier version could not resume."""
    full, model = read_model(files["model"])
    quantized, _ = read_quantized(files["unrefined"])
    split, _ = read_dataset(files["data"])
    state = Refinement(full, quantized, model, TRAINED, split, torch.device("cpu")).state()
    groups = {"levels", "values", "codes"}
    assert set(state) == groups | {"floats", "optimizer", "step", "seconds", "curve"}
    assert all(len(state[name]) == len(state["levels"]) for name in groups)
    assert {codes.dtype for codes in state["codes"]} == {torch.int32}


def test_condition_dropout(files: dict[str, Any]) -> None:
    refine(**files, settings=replace(SETTINGS, steps=10), condition_dropout=0.5)
    assert files["output"].exists()


def losses(files: dict[str, Any]) -> list[float]:
    return [json.loads(line)["loss"] for line in files["curve"].read_text().splitlines()]


@pytest.mark.parametrize("changes", [{"rounds": 2}, {"assignments": "trained"}])
def test_two_devices_refine_as_one_and_resume_on_one(
    files: dict[str, Any], monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    named = files | {"settings": replace(SETTINGS, steps=100, **changes), "condition_dropout": 0.3}
    refine(**named)
    alone = losses(files)
    refine(**named, devices=2)
    assert losses(files) == pytest.approx(alone, rel=1e-4)
    save = resume.save_state

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(resume, "save_state", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            refine(**named, devices=2, checkpoint_seconds=0)
    torch.distributed.destroy_process_group()  # which ends with a process, else
    refine(**named)
    assert losses(files) == pytest.approx(alone, rel=1e-4)


def test_devices_that_cannot_share_a_batch(files: dict[str, Any]) -> None:
    with pytest.raises(
        UserError, match=r"refine.devices: found 3; expected a divisor of the batch"
    ):
        refine(**files, settings=SETTINGS, devices=3)
