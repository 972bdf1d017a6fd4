"""Scores of a classifier against a confusion matrix done by hand, and the augmentation."""

import pytest
import torch

from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.model import ImageConfig
from flowquant.evaluation.classifier import build_classifier
from flowquant.runtime import random
from flowquant.runtime.errors import UserError
from flowquant.stages.classifier import augment
from flowquant.stages.downstream import scores


def test_scores_by_hand():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    predicted = torch.tensor([0, 0, 1, 1, 0, 0])
    found = scores(labels, predicted)
    precisions, recalls = [2 / 4, 1 / 2, 0], [2 / 3, 1 / 2, 0]
    f1 = [2 * p * r / (p + r) if p + r else 0 for p, r in zip(precisions, recalls, strict=True)]
    weights = [3 / 6, 2 / 6, 1 / 6]
    assert found["accuracy"] == pytest.approx(3 / 6)
    for name, values in (("precision", precisions), ("recall", recalls), ("f1", f1)):
        by_hand = sum(w * v for w, v in zip(weights, values, strict=True))
        assert found[name] == pytest.approx(by_hand)


def test_no_shift_changes_nothing():
    images = torch.randint(0, 256, (4, 3, 6, 6), dtype=torch.uint8)
    assert torch.equal(augment(images, 0, False, random.generator(0, "x")), images)


def test_shifts_move_content_and_repeat_the_edge():
    images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(200, 1, 8, 8)
    moved = augment(images, 2, False, random.generator(0, "x"))
    seen = {(int(m[0, 4, 4]) // 8 - 4, int(m[0, 4, 4]) % 8 - 4) for m in moved}
    assert seen == {(a, b) for a in range(-2, 3) for b in range(-2, 3)}
    for m in moved:
        rows = (m[0, :, 0] // 8).tolist()
        assert rows == sorted(rows)
        assert set(rows) <= set(range(8))


def test_flips_mirror_about_half():
    images = torch.arange(4, dtype=torch.uint8).view(1, 1, 1, 4).expand(400, 1, 1, 4)
    flipped = augment(images, 0, True, random.generator(0, "x"))
    mirrored = (flipped[:, 0, 0, 0] == 3).float().mean().item()
    assert mirrored == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", ["resnet18", "shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_stems_fit_small_images(name):
    network = build_classifier(ArchitectureConfig(name, ImageConfig(1, 8), 10)).eval()
    assert network(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


def test_unknown_architecture():
    with pytest.raises(UserError, match="found 'resnet19'; expected the name of a torchvision"):
        build_classifier(ArchitectureConfig("resnet19", ImageConfig(1, 8), 10))
