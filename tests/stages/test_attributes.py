"""A dataset of attributes, with a validation split of its own, through the stages."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from flowquant.config.model import ConditionConfig, ModelConfig
from flowquant.config.sampling import SamplingConfig
from flowquant.config.training import TrainingConfig
from flowquant.data.dataset import Part
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import write_tensors
from flowquant.sampling.samples import read_samples
from flowquant.stages.sample import sample
from flowquant.stages.train import train
from flowquant.training.flow_matching import Training
from tiny import TINY_NETWORK


def training_of(**settings: Any) -> TrainingConfig:
    common = TrainingConfig(
        epochs=1,
        batch=4,
        learning_rate=1e-3,
        weight_decay=0.0,
        schedule="plateau",
        warmup_epochs=0.0,
        halve_after=3,
        stop_after=10,
        clip=None,
        validation=4,
        condition_dropout=0.0,
        ema=None,
        precision="float32",
    )
    return replace(common, **settings)


def with_attributes(
    tmp_path: Path, model: ModelConfig, count: int = 12, validation: int = 5
) -> tuple[Path, dict[str, Tensor], ModelConfig]:
    """A dataset of attributes with a validation split of its own, and the model for it."""
    torch.manual_seed(1)
    tensors = {}
    for part, n in (("train", count), ("validation", validation), ("test", count)):
        if n:
            tensors[f"{part}_images"] = torch.randint(256, (n, 1, 8, 8), dtype=torch.uint8)
            tensors[f"{part}_labels"] = torch.randint(2, (n, 5), dtype=torch.uint8)
    data = tmp_path / "data.safetensors"
    write_tensors(data, tensors, {})
    model = replace(
        model,
        condition=ConditionConfig(kind="attributes", count=5),
        network=replace(TINY_NETWORK, condition="linear", time="fourier"),
    )
    return data, tensors, model


def run_training(tmp_path: Path, data: Path, model: ModelConfig, training: TrainingConfig) -> Path:
    output = tmp_path / "m.safetensors"
    train(
        data=data,
        output=output,
        report=tmp_path / "r.json",
        curve=tmp_path / "c.jsonl",
        checkpoint=tmp_path / "c.pt",
        dataset="x",
        model=model,
        training=training,
        device="cpu",
    )
    return output


def test_validation_on_the_datasets_own_split(
    tmp_path: Path, tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, tensors, model = with_attributes(tmp_path, tiny_model)
    seen = []

    def validate(_: Training, part: Part) -> float:
        seen.append(part.split.images[part.rows])
        return 1.0

    monkeypatch.setattr(Training, "validate", validate)
    run_training(tmp_path, data, model, training_of(validation=None))
    assert torch.equal(seen[0], tensors["validation_images"])
    run_training(tmp_path, data, model, training_of(validation=3))
    everything = tensors["train_images"].flatten(1).tolist()
    assert len(seen[1]) == 3
    assert all(row in everything for row in seen[1].flatten(1).tolist())


def test_no_validation_split_where_one_is_wanted(tmp_path: Path, tiny_model: ModelConfig) -> None:
    data, _, model = with_attributes(tmp_path, tiny_model, validation=0)
    with pytest.raises(UserError, match=r"training.validation: found null for .* has no validat"):
        run_training(tmp_path, data, model, training_of(validation=None))


def test_sampling_with_the_attributes_of_the_test_images(
    tmp_path: Path, tiny_model: ModelConfig
) -> None:
    data, tensors, model = with_attributes(tmp_path, tiny_model)
    trained = run_training(tmp_path, data, model, training_of(validation=None))
    drawn = tmp_path / "s.safetensors"
    labels: dict[Literal["zeros", "test"], Tensor] = {
        "zeros": torch.zeros(10, 5, dtype=torch.uint8),
        "test": tensors["test_labels"][:10],
    }
    for condition, wanted in labels.items():
        sampling = SamplingConfig(solver="euler", steps=2, per_class=1, condition=condition)
        sample(
            model=trained,
            output=drawn,
            dataset="x",
            variant="full",
            seed=0,
            sampling=sampling,
            data=data,
            device="cpu",
        )
        assert torch.equal(read_samples(drawn)[1], wanted)
    with pytest.raises(UserError, match="found 12 test images to take attributes from"):
        sample(
            model=trained,
            output=drawn,
            dataset="x",
            variant="full",
            seed=0,
            sampling=replace(sampling, per_class=2),
            data=data,
        )
