"""Classifiers of small images: their stems, their predictions, their files."""

from pathlib import Path
from typing import Any

import pytest
import torch

from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.model import ImageConfig
from flowquant.evaluation.classifier import (
    build_classifier,
    check_judges,
    check_sees,
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


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([0, 12], r"one that knows the labels 0 to 12"),
        ([-1, 0], r"one that knows the labels -1 to 0"),
        ([[0, 1], [1, 1]], r"the samples have attributes"),
    ],
)
def test_what_a_classifier_cannot_judge(labels: list[Any], expected: str) -> None:
    config = ArchitectureConfig(name="resnet18", image=IMAGE, classes=10)
    with pytest.raises(UserError, match=rf"c\.safetensors: found a classifier of .*{expected}"):
        check_judges(Path("c.safetensors"), config, torch.tensor(labels))


@pytest.mark.parametrize(("channels", "size"), [(3, 8), (1, 12)])
def test_what_a_classifier_cannot_see(channels: int, size: int) -> None:
    config = ArchitectureConfig(name="resnet18", image=IMAGE, classes=10)
    shown = torch.zeros(2, channels, size, size, dtype=torch.uint8)
    expected = rf"c\.safetensors: found a classifier of .*\[{channels}, {size}, {size}\]"
    with pytest.raises(UserError, match=expected):
        check_sees(Path("c.safetensors"), config, shown)


def test_a_damaged_classifier_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    config = ArchitectureConfig(
        name="squeezenet1_1", image=ImageConfig(channels=1, size=8), classes=3
    )
    write_classifier(path, build_classifier(config), config)
    content = bytearray(path.read_bytes())
    content[-1000:] = bytes(1000)
    path.write_bytes(content)
    with pytest.raises(UserError, match="SHA-256"):
        read_classifier(path)
