"""The schedule of training: learning rates, halving, the early stop, condition dropout."""

from dataclasses import replace

import pytest
import torch
from tqdm import tqdm

from flowquant.config.model import ModelConfig
from flowquant.data.dataset import Part, Split
from flowquant.training import flow_matching
from flowquant.training.flow_matching import Training, learning_rate
from tiny import TRAINING

CPU = torch.device("cpu")


def test_learning_rate_schedules() -> None:
    cosine = replace(TRAINING, learning_rate=1.0, warmup_epochs=2, epochs=10)
    rates = [learning_rate(cosine, step, 5, 0) for step in range(50)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[30] == pytest.approx(0.5)
    assert rates[-1] < 0.01
    linear = replace(cosine, schedule="linear")
    rates = [learning_rate(linear, step, 5, 0) for step in range(50)]
    assert (rates[9], rates[30], rates[49]) == pytest.approx((1.0, 0.5, 0.025))
    assert learning_rate(replace(cosine, schedule="constant"), 49, 5, 0) == 1.0
    plateau = replace(TRAINING, learning_rate=1.0, schedule="plateau", warmup_epochs=0)
    assert [learning_rate(plateau, 99, 5, halvings) for halvings in (0, 1, 3)] == [1, 0.5, 0.125]


def test_early_stop_and_halving(tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(TRAINING, schedule="plateau", warmup_epochs=0, epochs=50, stop_after=7)
    training = Training(tiny_model, config, 0, CPU)
    nothing = Part(Split(torch.empty(0), torch.empty(0)), torch.empty(0))
    losses = iter([1.0, 0.5] + [0.6] * 50)
    monkeypatch.setattr(Training, "train_epoch", lambda *_: 0.0)
    monkeypatch.setattr(Training, "validate", lambda *_: next(losses))
    while not training.finished:
        training.run_epoch(nothing, nothing, tqdm(disable=True), lambda: None)
    assert training.progress.epoch == 9  # seven epochs after the best, the second
    assert training.progress.best_epoch == 2
    assert training.progress.halvings == 2  # after three and six epochs without a better loss


def test_condition_dropout_drops_at_its_rate_and_only_in_training(tiny_model: ModelConfig) -> None:
    config = replace(TRAINING, condition_dropout=0.25)
    training = Training(tiny_model, config, 0, CPU)
    images, labels = torch.zeros(4000, 1, 8, 8, dtype=torch.uint8), torch.zeros(4000).long()
    seen = []
    training.network.register_forward_pre_hook(lambda _, args: seen.append(args[3]))
    for mode in (True, False):
        training.network.train(mode)
        with torch.no_grad():
            training.loss(training.network, images, labels)
    assert seen[0].mean().item() == pytest.approx(0.75, abs=0.03)
    assert seen[1] is None


def test_half_of_the_images_are_mirrored_and_only_in_training(
    tiny_model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(tiny_model, replace(TRAINING, flip=True), 0, CPU)
    images = torch.zeros(4000, 1, 8, 8, dtype=torch.uint8)
    images[..., 0] = 255
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(flow_matching, "matching_loss", lambda *given: seen.append(given[2]))
    for mode in (True, False):
        training.network.train(mode)
        training.loss(training.network, images, torch.zeros(4000).long())
    mirrored = (seen[0][:, 0, 0, -1] > 0).float()
    assert mirrored.mean().item() == pytest.approx(0.5, abs=0.03)
    assert (seen[0].sum((1, 2, 3)) == seen[1].sum((1, 2, 3))).all()
    assert (seen[1][..., 0] > 0).all()
