"""What training and refinement share: learning rates and weights as one vector."""

from dataclasses import replace

import pytest
import torch

from flowquant.training.flow_matching import learning_rate
from flowquant.training.optimization import as_one, flat_gradient, one_cycle
from tiny import TRAINING


def test_learning_rate_schedules():
    cosine = replace(TRAINING, learning_rate=1.0, warmup_epochs=2, epochs=10)
    rates = [learning_rate(cosine, step, 5, 0) for step in range(50)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == pytest.approx(1.0)
    assert rates[30] == pytest.approx(0.5)
    assert rates[-1] < 0.01
    plateau = replace(TRAINING, learning_rate=1.0, schedule="plateau", warmup_epochs=0)
    assert [learning_rate(plateau, 99, 5, halvings) for halvings in (0, 1, 3)] == [1, 0.5, 0.125]


def test_one_cycle_rises_and_falls() -> None:
    rates = [one_cycle(1.0, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) == 30
    assert rates[-1] < 0.001


def test_weights_become_views_of_one_vector():
    weights = [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.full((4,), 2.0))]
    vector = as_one(weights)
    assert vector.tolist() == [1.0] * 6 + [2.0] * 4
    vector.mul_(3)
    assert weights[0].shape == (2, 3)
    assert weights[1].tolist() == [6.0] * 4
    (weights[1] * 5).sum().backward()
    assert flat_gradient(weights).tolist() == [0.0] * 6 + [5.0] * 4
    assert as_one([]).numel() == 0
