"""Stages that take a dataset's labels: they are the preset's."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flowquant.config.classifier import ClassifierConfig
from flowquant.data.dataset import Split, write_dataset
from flowquant.runtime.errors import UserError
from flowquant.stages.classifier import classifier
from flowquant.stages.sample_real import sample_real
from tiny import TINY_MODEL

IMAGE, CONDITION = TINY_MODEL.image, TINY_MODEL.condition


def write_odd(path: Path, odd: str) -> None:
    """A dataset of three classes, in one split others."""
    images = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
    splits = {
        name: Split(images.clone(), torch.arange(6) % 3 + 6 * (name == odd))
        for name in ("train", "test")
    }
    wider = replace(CONDITION, count=9)
    write_dataset(path, **splits, image=IMAGE, condition=wider, provenance={})


@pytest.mark.parametrize("odd", ["train", "test"])
def test_labels_that_the_preset_has_not(odd: str, tmp_path: Path) -> None:
    write_odd(tmp_path / "data", odd)
    with pytest.raises(UserError, match="data: found labels from 6 to 8; expected 3 class"):
        classifier(
            data=tmp_path / "data",
            output=tmp_path / "out" / "classifier",
            report=tmp_path / "out" / "report",
            image=IMAGE,
            condition=CONDITION,
            settings=ClassifierConfig(epochs=1),
            dataset="tiny",
            device="cpu",
        )
    assert not (tmp_path / "out").exists()


def test_real_images_of_classes_that_the_preset_has_not(tmp_path: Path) -> None:
    write_odd(tmp_path / "data", "train")
    with pytest.raises(UserError, match="data: found labels from 6 to 8; expected 3 class"):
        sample_real(tmp_path / "data", tmp_path / "real", "tiny", 2, 0, CONDITION)
    assert not (tmp_path / "real").exists()
