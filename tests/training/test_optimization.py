"""What training and refinement share: learning rates and weights as one vector."""

import pytest
import torch

from flowquant.training.flow_matching import average_share
from flowquant.training.gradient import Gradient
from flowquant.training.optimization import as_one, one_cycle


def test_one_cycle_rises_and_falls() -> None:
    rates = [one_cycle(1.0, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) == 30
    assert rates[-1] < 0.001


def test_weights_become_views_of_one_vector() -> None:
    weights = [torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.full((4,), 2.0))]
    vector = as_one(weights)
    assert vector.tolist() == [1.0] * 6 + [2.0] * 4
    vector.mul_(3)
    assert weights[0].shape == (2, 3)
    assert weights[1].tolist() == [6.0] * 4
    (weights[1] * 5).sum().backward()
    gradient = Gradient(weights, torch.ones(10))
    gradient.gather()
    assert gradient.vector.tolist() == [0.0] * 6 + [5.0] * 4
    # What is written need not be gathered.
    places: dict[torch.Tensor, torch.Tensor] = {}
    gradient.let_write(places)
    places[weights[0]].fill_(7)
    gradient.gather()
    assert gradient.vector.tolist() == [7.0] * 6 + [5.0] * 4
    assert as_one([]).numel() == 0


def test_weights_lie_in_the_vector_as_their_counterparts_do() -> None:
    plain = torch.nn.Parameter(torch.arange(24.0).view(2, 3, 2, 2))
    last = torch.nn.Parameter(plain.detach().clone(memory_format=torch.channels_last))
    before = plain.detach().clone()
    vectors = as_one([plain], [last]), as_one([last])
    assert torch.equal(*vectors)
    assert vectors[0].tolist() != before.flatten().tolist()
    for weight in (plain, last):
        assert torch.equal(weight, before)
        assert weight.is_contiguous(memory_format=torch.channels_last)
    (last * before).sum().backward()
    gradient = Gradient([last], torch.zeros(24))
    gradient.gather()
    assert torch.equal(gradient.vector, vectors[1])


def test_an_average_forgets_its_beginning() -> None:
    left = 1.0
    for step in range(300):
        left *= 1 - average_share(0.9995, step)
    assert left < 1e-12 < 0.9995**300
    assert average_share(0.9995, 10**6) == pytest.approx(0.0005)
