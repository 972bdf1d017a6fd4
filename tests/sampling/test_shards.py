"""Sampling on two devices, here CPUs: the images and counts of one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from flowquant.config.model import ModelConfig
from flowquant.config.sampling import SamplingConfig
from flowquant.models.model import build_network, write_model
from flowquant.runtime.errors import UserError
from flowquant.sampling.samples import Origin, read_samples
from flowquant.stages.sample import sample


def images_of(folder: Path, devices: int, **settings: Any) -> tuple[Tensor, Tensor, Origin]:
    folder.mkdir(exist_ok=True)
    output = folder / f"{devices}.safetensors"
    sampling = SamplingConfig(solver="euler", steps=4, per_class=3)
    sample(
        model=folder / "model.safetensors",
        output=output,
        dataset="squares",
        variant="full",
        seed=5,
        sampling=sampling,
        batch=4,
        devices=devices,
        **settings,
    )
    return read_samples(output)


def test_two_devices_sample_what_one_does(tmp_path: Path, tiny_model: ModelConfig) -> None:
    torch.manual_seed(0)
    write_model(
        tmp_path / "model.safetensors", build_network(tiny_model).state_dict(), tiny_model, {}
    )
    images, labels, origin = images_of(tmp_path, 1, device="cpu")
    # Nine images: five in the first shard.
    found, found_labels, found_origin = images_of(tmp_path, 2, device="cpu")
    assert torch.equal(labels, found_labels)
    assert origin == found_origin
    # Equal but for rounding: at most one grey value apart, and hardly anywhere.
    difference = (images.int() - found.int()).abs()
    assert difference.max() <= 1
    assert (difference > 0).float().mean() < 0.01


def test_more_devices_than_there_are(
    tmp_path: Path, tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(
        tmp_path / "model.safetensors", build_network(tiny_model).state_dict(), tiny_model, {}
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UserError, match=r"sampling.devices: found 2, but PyTorch sees 1 GPU here"):
        images_of(tmp_path, 2)
