"""The augmentation of a classifier's training images, and that a classifier learns."""

import pytest
import torch
from torch import nn

from flowquant.config.classifier import ClassifierConfig
from flowquant.data.dataset import Split
from flowquant.evaluation.classifier import predict
from flowquant.evaluation.classifier_training import augment, fit
from flowquant.evaluation.scores import accuracy
from flowquant.runtime import random
from flowquant.runtime.errors import UserError

CPU = torch.device("cpu")


def test_no_shift_changes_nothing() -> None:
    images = torch.randint(0, 256, (4, 3, 6, 6), dtype=torch.uint8)
    assert torch.equal(augment(images, 0, False, random.generator(0, "x")), images)


def test_shifts_move_content_and_repeat_the_edge() -> None:
    images = torch.arange(64, dtype=torch.uint8).view(1, 1, 8, 8).expand(200, 1, 8, 8)
    moved = augment(images, 2, False, random.generator(0, "x"))
    seen = {(int(m[0, 4, 4]) // 8 - 4, int(m[0, 4, 4]) % 8 - 4) for m in moved}
    assert seen == {(a, b) for a in range(-2, 3) for b in range(-2, 3)}
    for m in moved:
        rows = (m[0, :, 0] // 8).tolist()
        assert rows == sorted(rows)
        assert set(rows) <= set(range(8))


def test_flips_mirror_about_half() -> None:
    images = torch.arange(4, dtype=torch.uint8).view(1, 1, 1, 4).expand(400, 1, 1, 4)
    flipped = augment(images, 0, True, random.generator(0, "x"))
    mirrored = (flipped[:, 0, 0, 0] == 3).float().mean().item()
    assert mirrored == pytest.approx(0.5, abs=0.1)


def test_a_classifier_learns_bright_from_dark() -> None:
    labels = torch.arange(64) % 2
    draws = torch.Generator().manual_seed(0)
    noise = torch.randint(100, (64, 1, 8, 8), generator=draws, dtype=torch.uint8)
    split = Split(noise + 150 * labels.to(torch.uint8).view(-1, 1, 1, 1), labels)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    settings = ClassifierConfig(
        architecture="not used",
        epochs=6,
        batch=16,
        learning_rate=1e-2,
        weight_decay=0.0,
        shift=1,
        flip=True,
    )
    fit(network, split, settings, 0, CPU)
    assert not network.training
    assert accuracy(labels, predict(network, split.images, CPU, batch=10)) > 0.9


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    linear = nn.Linear(16, 2)
    nn.init.constant_(linear.weight, float("nan"))
    network = nn.Sequential(nn.Flatten(), linear)
    split = Split(torch.zeros(8, 1, 4, 4, dtype=torch.uint8), torch.arange(8) % 2)
    with pytest.raises(UserError, match="classifier after epoch 1: found a loss of nan"):
        fit(network, split, ClassifierConfig(epochs=2, batch=4), 0, CPU)
