"""Features of images: by the dataset's own classifier, and by the published Inception network."""

from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.extractors import PublicName
from flowquant.config.model import ImageConfig
from flowquant.evaluation.classifier import (
    build_classifier,
    penultimate,
    read_classifier,
    write_classifier,
)
from flowquant.evaluation.extract import EXTRACTORS, extract
from flowquant.runtime.errors import UserError

CPU = torch.device("cpu")


def test_extractor_gives_the_classifiers_own_features(tmp_path: Path) -> None:
    classifier = tmp_path / "classifier.safetensors"
    config = ArchitectureConfig(name="resnet18", image=ImageConfig(channels=1, size=8), classes=3)
    torch.manual_seed(0)
    write_classifier(classifier, build_classifier(config).eval(), config)
    images = torch.randint(0, 256, (7, 1, 8, 8), dtype=torch.uint8)
    with pytest.raises(UserError, match=r"classifier of images \[1, 8, 8\], .*\[3, 8, 8\]"):
        extract(images.expand(-1, 3, -1, -1), "classifier", classifier, CPU)
    features, logits = extract(images, "classifier", classifier, CPU, batch=3)
    network: Any = read_classifier(classifier)[0]
    by_hand = penultimate(network, images)
    assert features.shape == (7, 512)
    torch.testing.assert_close(features, by_hand[0], atol=1e-4, rtol=1e-4)
    assert logits is not None
    torch.testing.assert_close(logits, by_hand[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(network.fc(features), logits, atol=1e-4, rtol=1e-4)


def test_inception_weights_that_would_execute_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (print, ("executed",))

    torch.save({"a": Evil()}, tmp_path / "weights.pth")
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"no plain weights.*weights-inception-2015-12-05"):
        extract(images, "inception-v3-compat", tmp_path / "weights.pth", CPU)
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth: found no plain weights of inception"):
        extract(images, "inception-v3-compat", tmp_path / "other.pth", CPU)


def test_inception_with_weights_of_the_right_shape(tmp_path: Path) -> None:
    """The published extractor's path, on random weights: the real ones cannot be had in a test."""
    blank = (
        "torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3.load_state_dict"
    )
    empty = tmp_path / "empty.pth"
    torch.save({}, empty)
    with patch(blank):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(empty))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    features, logits = extract(images, "inception-v3-compat", tmp_path / "weights.pth", CPU)
    assert features.shape == (3, 2048)
    assert logits is not None
    assert logits.shape == (3, 1008)


def test_every_name_has_its_network() -> None:
    assert set(EXTRACTORS) == set(get_args(PublicName)) | {"classifier"}
