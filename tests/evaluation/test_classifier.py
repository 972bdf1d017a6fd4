"""Classifiers of small images: their stems, their predictions, their files."""

from pathlib import Path

import pytest
import torch

from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.model import ImageConfig
from flowquant.evaluation.classifier import (
    build_classifier,
    classify,
    predict,
    read_classifier,
    write_classifier,
)
from flowquant.runtime.errors import UserError

CPU = torch.device("cpu")
IMAGE = ImageConfig(channels=1, size=8)


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_stems_fit_small_images(name: str) -> None:
    network = build_classifier(ArchitectureConfig(name=name, image=IMAGE, classes=10)).eval()
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_unknown_architecture() -> None:
    with pytest.raises(UserError, match="found 'resnet19'; expected the name of a torchvision"):
        build_classifier(ArchitectureConfig(name="resnet19", image=IMAGE, classes=10))


def test_predictions_do_not_depend_on_the_batch_or_on_the_file(tmp_path: Path) -> None:
    config = ArchitectureConfig(name="shufflenet_v2_x0_5", image=IMAGE, classes=3)
    torch.manual_seed(0)
    network = build_classifier(config).eval()
    images = torch.randint(0, 256, (7, 1, 8, 8), dtype=torch.uint8)
    write_classifier(tmp_path / "classifier.safetensors", network, config)
    again, found = read_classifier(tmp_path / "classifier.safetensors")
    assert found == config
    expected = classify(network, images).argmax(1)
    assert predict(again, images, CPU, batch=2).equal(expected)
