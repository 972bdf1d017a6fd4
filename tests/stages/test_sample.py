"""Sampling: independent of batches, the same start for every variant."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from flowquant.config.method import MethodConfig
from flowquant.config.model import ConditionConfig, ModelConfig
from flowquant.config.sampling import SamplingConfig, SolverConfig, SolverName
from flowquant.models.model import build_network, load_network, write_model
from flowquant.runtime.errors import UserError
from flowquant.sampling.generate import asked_for, generate, start_digest
from flowquant.sampling.sampler import Sampler
from flowquant.sampling.samples import Origin, read_samples, write_grid
from flowquant.stages.quantize import quantize
from flowquant.stages.sample import sample

CPU = torch.device("cpu")


@pytest.fixture
def weights(tiny_model: ModelConfig) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return build_network(tiny_model).state_dict()


def test_samples_do_not_depend_on_the_batch(
    tiny_model: ModelConfig, weights: dict[str, Tensor]
) -> None:
    network = load_network(weights, tiny_model)
    labels = asked_for(tiny_model.condition, per_class=4)
    batches = [
        generate(network, tiny_model, labels, SolverConfig(steps=8), 3, batch, CPU)[0]
        for batch in (12, 5, 1)
    ]
    for images in batches[1:]:
        # Equal but for rounding: at most one grey value apart, and hardly anywhere.
        difference = (images.int() - batches[0].int()).abs()
        assert difference.max() <= 1
        assert (difference > 0).float().mean() < 0.01


def test_seeds_differ_and_repeat(tiny_model: ModelConfig, weights: dict[str, Tensor]) -> None:
    network = load_network(weights, tiny_model)
    labels = asked_for(tiny_model.condition, per_class=2)
    first, again, other = (
        generate(network, tiny_model, labels, SolverConfig(steps=4), s, 6, CPU)[0]
        for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A GPU memory, so to speak, that holds as many images as `room` says; the batches tried."""
    integrate = Sampler.__call__
    memory: dict[str, Any] = {"room": 0, "tried": []}

    def limited(self: Sampler, noise: Tensor, condition: Tensor) -> Tensor:
        memory["tried"].append(len(noise))
        if len(noise) > memory["room"]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return integrate(self, noise, condition)

    monkeypatch.setattr(Sampler, "__call__", limited)
    return memory


def test_out_of_memory_halves_the_batch_and_goes_on(
    tiny_model: ModelConfig,
    weights: dict[str, Tensor],
    small_memory: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = load_network(weights, tiny_model)
    labels, solver = asked_for(tiny_model.condition, per_class=4), SolverConfig(steps=4)
    small_memory["room"] = 5
    images, evaluations = generate(network, tiny_model, labels, solver, 3, 12, CPU)
    assert small_memory["tried"] == [12, 6, 3, 3, 3, 3]
    assert evaluations == 4
    assert "out of memory: resuming with batches of 3" in capsys.readouterr().out
    small_memory["room"] = 12
    assert torch.equal(images, generate(network, tiny_model, labels, solver, 3, 3, CPU)[0])


def test_a_memory_that_fills_up_later_loses_no_image(
    tiny_model: ModelConfig, weights: dict[str, Tensor], small_memory: dict[str, Any]
) -> None:
    network = load_network(weights, tiny_model)
    labels, solver = asked_for(tiny_model.condition, per_class=4), SolverConfig(steps=4)
    small_memory["room"] = 12
    undisturbed, _ = generate(network, tiny_model, labels, solver, 3, 12, CPU)
    whole = Sampler.__call__

    def fills_up(self: Sampler, noise: Tensor, condition: Tensor) -> Tensor:
        found = whole(self, noise, condition)
        small_memory["room"] = 2
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sampler, "__call__", fills_up)
        images, _ = generate(network, tiny_model, labels, solver, 3, 5, CPU)
    assert small_memory["tried"] == [12, 5, 5, 3, 2, 2, 2, 1]
    # As under any other batch: equal but for rounding.
    assert images.shape == undisturbed.shape
    assert (images.int() - undisturbed.int()).abs().max() <= 1


def test_a_memory_that_holds_not_one_image(
    tiny_model: ModelConfig, weights: dict[str, Tensor], small_memory: dict[str, Any]
) -> None:
    network = load_network(weights, tiny_model)
    with pytest.raises(UserError, match=r"too little for one image .* set `device: cpu`"):
        generate(network, tiny_model, torch.tensor([0, 1]), SolverConfig(steps=1), 0, 2, CPU)
    assert small_memory["tried"] == [2, 1]


@pytest.mark.parametrize(("solver", "count"), [("euler", 6), ("midpoint", 12), ("heun", 12)])
def test_evaluations_are_those_of_the_network(
    tiny_model: ModelConfig, weights: dict[str, Tensor], solver: SolverName, count: int
) -> None:
    network, calls = load_network(weights, tiny_model), []
    network.register_forward_pre_hook(lambda *_: calls.append(1))
    config = SolverConfig(solver=solver, steps=6, guidance=2.0)
    _, found = generate(network, tiny_model, torch.tensor([0, 1, 2]), config, 0, 3, CPU)
    assert found == len(calls) == count


def test_a_finer_tolerance_takes_more_evaluations(
    tiny_model: ModelConfig, weights: dict[str, Tensor]
) -> None:
    """Batches choose their own steps: the count is the mean over images."""
    network, labels = load_network(weights, tiny_model), torch.tensor([0, 1, 2])
    calls = []
    network.register_forward_pre_hook(lambda *_: calls.append(1))
    counts = []
    for tolerance in (1e-2, 1e-6):
        solver = SolverConfig(solver="dopri5", steps=1, tolerance=tolerance)
        calls.clear()
        counts.append(generate(network, tiny_model, labels, solver, 0, 1, CPU)[1])
        assert counts[-1] == pytest.approx(len(calls) / 3)
    assert counts[0] < counts[1]


def test_classes_are_asked_for_in_turn() -> None:
    assert asked_for(ConditionConfig(kind="class", count=3), 2).tolist() == [0, 0, 1, 1, 2, 2]
    attributes = asked_for(ConditionConfig(kind="attributes", count=40), 100)
    assert attributes.shape == (1000, 40)
    assert not attributes.any()


def test_stage_on_full_and_quantized_weights(
    tmp_path: Path, tiny_model: ModelConfig, weights: dict[str, Tensor]
) -> None:
    """At 16 bits every weight is nearly itself, so both variants start and end alike."""
    write_model(tmp_path / "model.safetensors", weights, tiny_model, {})
    method = MethodConfig(
        levels="equal_mass", granularity="tensor", scope="all", keep=(), least_values=5
    )
    quantize(
        model=tmp_path / "model.safetensors",
        output=tmp_path / "ot.safetensors",
        report=tmp_path / "ot.json",
        method=method,
        dataset="squares",
        variant="ot/16bit",
        bits=16,
    )
    found = {}
    for name in ("model", "ot"):
        sample(
            model=tmp_path / f"{name}.safetensors",
            output=tmp_path / f"{name}.samples.safetensors",
            dataset="squares",
            variant=name,
            seed=5,
            sampling=SamplingConfig(solver="euler", steps=4, per_class=12),
            device="cpu",
        )
        found[name] = read_samples(tmp_path / f"{name}.samples.safetensors")
    images, labels, origin = found["model"]
    assert images.shape == (36, 1, 8, 8)
    assert images.dtype == torch.uint8
    assert labels.bincount().tolist() == [12, 12, 12]
    assert replace(origin, start=None) == Origin("squares", "model", 5, 4, training_seed=0)
    assert origin.start is not None
    assert origin.start == found["ot"][2].start
    # The tiny network has no tensor of more than 65,536 values: 16 bits lose nothing at all.
    assert torch.equal(images, found["ot"][0])


def test_a_picture_of_a_packed_model_needs_no_more_than_its_names(
    tmp_path: Path, tiny_model: ModelConfig, weights: dict[str, Tensor]
) -> None:
    model, packed, grid = (tmp_path / f for f in ("m.safetensors", "p.safetensors", "grid.png"))
    write_model(model, weights, tiny_model, {})
    quantize(model, packed, bits=2, device="cpu")
    sample(packed, grid, device="cpu")
    pixels = np.asarray(Image.open(grid))
    assert pixels.shape == (3 * 49 + 1, 5 * 49 + 1)  # 8 pixels, each six wide
    assert len(np.unique(pixels)) > 2
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".png") == ["grid.png"]


def test_a_samples_file_without_names(
    tmp_path: Path, tiny_model: ModelConfig, weights: dict[str, Tensor]
) -> None:
    write_model(tmp_path / "model.safetensors", weights, tiny_model, {})
    with pytest.raises(UserError, match=r"neither a picture nor .*--output grid.png"):
        sample(tmp_path / "model.safetensors", tmp_path / "s.safetensors", dataset="x")


def test_what_samples_begin_with_has_a_digest(tiny_model: ModelConfig) -> None:
    labels = torch.arange(6) % 3
    given = start_digest(tiny_model, labels, 5)
    assert start_digest(tiny_model, labels.clone(), 5) == given
    others = [start_digest(tiny_model, labels, 6), start_digest(tiny_model, labels.flip(0), 5)]
    others.append(start_digest(tiny_model, labels[:3], 5))
    assert len({given, *others}) == 4


def test_grid_shows_each_image_in_its_place(tmp_path: Path) -> None:
    images = torch.arange(5, dtype=torch.uint8).mul(40).view(5, 1, 1, 1).expand(5, 3, 2, 2)
    write_grid(tmp_path / "grid.png", images, columns=3)
    pixels = np.asarray(Image.open(tmp_path / "grid.png"))
    assert pixels.shape == (7, 10, 3)
    assert [pixels[1, 1, 0], pixels[1, 4, 0], pixels[4, 4, 2]] == [0, 40, 160]
    assert (pixels[4, 7] == 255).all()  # no sixth image
    assert (pixels[0] == 255).all()


def test_something_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(UserError, match="found an unreadable file"):
        sample(
            model=tmp_path / "model.safetensors",
            output=tmp_path / "out.safetensors",
            dataset="x",
            variant="full",
            seed=0,
            sampling=SamplingConfig(solver="euler", steps=1, per_class=1),
        )
    assert not (tmp_path / "out.safetensors").exists()


def test_weights_that_are_not_finite(
    tmp_path: Path, tiny_model: ModelConfig, weights: dict[str, Tensor]
) -> None:
    weights["out_proj.bias"][0] = float("nan")
    weights["pos_emb"][0, 0, 0] = float("inf")
    write_model(tmp_path / "model.safetensors", weights, tiny_model, {})
    with pytest.raises(
        UserError,
        match=r"NaN or infinite values in (out_proj|pos_emb)",
    ):
        sample(
            model=tmp_path / "model.safetensors",
            output=tmp_path / "out.safetensors",
            dataset="x",
            variant="full",
            seed=0,
            sampling=SamplingConfig(solver="euler", steps=1, per_class=1),
        )
