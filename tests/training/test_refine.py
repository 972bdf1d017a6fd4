"""Any module refined: closer to the original, whatever points come as, and what is refused."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import flowquant
from flowquant.quantization.record import quantized_record
from flowquant.runtime.errors import UserError


class Velocity(nn.Module):
    """Of states x [B, 2] at times t [B], with dropout, a tied weight and a counting buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 32), nn.Linear(32, 32)
        self.third, self.last = nn.Linear(32, 32), nn.Linear(32, 2)
        self.third.weight = self.second.weight
        self.dropout = nn.Dropout(0.5)
        self.register_buffer("calls", torch.tensor(3001))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        hidden = self.first(torch.cat([x, t[:, None]], dim=1)).relu()
        hidden = self.dropout(self.second(hidden).relu())
        return self.last(self.third(hidden).relu())


@pytest.fixture
def model() -> Velocity:
    torch.manual_seed(0)
    return Velocity()


def drawn(count: int) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 2), torch.rand(count)


def error(small: nn.Module, model: nn.Module) -> float:
    torch.manual_seed(7)
    inputs, modes = drawn(2048), [small.training, model.training]
    with torch.no_grad():
        found, wanted = (network.eval()(*inputs) for network in (small, model))
    for network, mode in zip((small, model), modes, strict=True):
        network.train(mode)
    return (found - wanted).square().mean().item()


def repeated(count: int) -> list[tuple[Tensor, Tensor]]:
    return [drawn(64) for _ in range(count)]


@pytest.mark.parametrize(
    "points",
    [
        drawn,
        lambda count: dict(zip("xt", drawn(count), strict=True)),
        drawn(500),
        dict(zip("xt", drawn(500), strict=True)),
        repeated(9),
        DataLoader(TensorDataset(*drawn(300)), batch_size=64, shuffle=True),
    ],
    ids=["function", "function of names", "tensors", "names", "list of batches", "loader"],
)
def test_points_in_every_form(points: Any, model: Velocity) -> None:
    small = flowquant.quantize(model, bits=2)
    refined = flowquant.refine(small, model, points, steps=150, batch=64, learning_rate=3e-3)
    assert error(refined, model) < 0.5 * error(small, model)


@pytest.mark.parametrize(
    "settings",
    [{"assignments": "fixed"}, {"assignments": "fixed", "rounds": 2}, {"precision": "float32"}],
)
def test_settings(settings: dict[str, Any], model: Velocity, tmp_path: Path) -> None:
    small = flowquant.quantize(model, bits=2)
    before = [tensor.clone() for tensor in [*small.parameters(), *model.parameters()]]
    refined = flowquant.refine(
        small, model, drawn, steps=150, batch=64, learning_rate=3e-3, **settings
    )
    assert error(refined, model) < 0.7 * error(small, model)
    for tensor, was in zip([*small.parameters(), *model.parameters()], before, strict=True):
        assert tensor.equal(was)
    assert refined.training
    assert model.training
    assert refined.third.weight is refined.second.weight
    assert refined.calls.equal(torch.tensor(3001))  # type: ignore[operator]
    assert all(len(row.unique()) <= 4 for row in refined.second.weight)
    held = quantized_record(small).packed, quantized_record(refined).packed
    if settings == {"assignments": "fixed"}:
        assert all(held[0][name].packed.equal(held[1][name].packed) for name in held[0])
    # Of the same size and form: it is saved, loaded and refined on.
    flowquant.save(small, tmp_path / "small")
    flowquant.save(refined, tmp_path / "refined")
    loaded = flowquant.load(tmp_path / "refined", into=Velocity())
    for name, tensor in refined.state_dict().items():
        assert loaded.state_dict()[name].equal(tensor)
    flowquant.refine(loaded, model, drawn, steps=2, batch=8)


def test_it_follows_from_the_seed_and_disturbs_nobody(model: Velocity) -> None:
    small = flowquant.quantize(model, bits=2)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = (
        flowquant.refine(small, model, drawn, steps=5, batch=16, seed=seed) for seed in (0, 0, 1)
    )
    assert torch.rand(1).equal(expected)
    assert first.first.weight.equal(again.first.weight)
    assert not first.first.weight.equal(other.first.weight)


def test_parameters_that_want_no_gradient_stay(model: Velocity) -> None:
    small = flowquant.quantize(model, bits=2)
    small.last.bias.requires_grad_(False)
    refined = flowquant.refine(small, model, drawn, steps=20, batch=16)
    assert refined.last.bias.equal(small.last.bias)
    assert not refined.first.bias.equal(small.first.bias)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_float_types(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Linear(16, 16).to(dtype)
    x = torch.randn(512, 16, dtype=dtype)
    small = flowquant.quantize(model, bits=2)
    refined = flowquant.refine(small, model, x, steps=100, batch=64, learning_rate=3e-3)
    errors = [(network(x) - model(x)).square().mean() for network in (small, refined)]
    assert errors[1] < errors[0]
    assert refined.weight.dtype == dtype


class Other(Velocity):
    """The same, called in another way."""

    def forward(self, timesteps: Tensor, *, sample: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(sample, timesteps)


@pytest.mark.parametrize(
    "points", [drawn, lambda count: dict(zip("xt", drawn(count), strict=True))]
)
def test_points_are_handed_on_by_a_call(points: Any, model: Velocity) -> None:
    other = Other()
    other.load_state_dict(model.state_dict())
    refined = flowquant.refine(
        flowquant.quantize(other, bits=2), other, points, call="t, sample=x", steps=5, batch=16
    )
    plain = flowquant.refine(flowquant.quantize(model, bits=2), model, drawn, steps=5, batch=16)
    assert refined.first.weight.equal(plain.first.weight)


@pytest.mark.parametrize(
    ("points", "call", "message"),
    [
        (torch.ones(9, 2), "x, t", "points: found 1 inputs; expected x, t and perhaps y"),
        ({"x": torch.ones(9, 2), "s": torch.ones(9)}, "x, t", "points: found x, s; expected x, t"),
        (drawn, "x, s", "call: found `s`, which is none of x, t, y in 'x, s'"),
    ],
)
def test_what_a_call_cannot_hand_on(points: Any, call: str, message: str, model: Velocity) -> None:
    small = flowquant.quantize(model, bits=2)
    with pytest.raises(UserError, match=message):
        flowquant.refine(small, model, points, call=call, steps=3)


def empty() -> Iterator[Any]:
    yield from ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda small, model: (model, model, drawn), "one that is not quantized"),
        (lambda small, model: (small, nn.Linear(3, 2), drawn), "other weights.*first.weight"),
        (lambda small, model: (small, model, (torch.ones(3, 2), torch.ones(4))), "3, 4 rows"),
        (lambda small, model: (small, model, empty()), "points: found none"),
        (lambda small, model: (small, model, ()), "points: found tensors of no rows"),
    ],
)
def test_mistakes(change: Callable[..., Any], message: str, model: Velocity) -> None:
    arguments = change(flowquant.quantize(model, bits=2), model)
    with pytest.raises(UserError, match=message):
        flowquant.refine(*arguments, steps=3)


def test_settings_that_are_none(model: Velocity) -> None:
    small = flowquant.quantize(model, bits=2)
    with pytest.raises(UserError, match="steps: found 0"):
        flowquant.refine(small, model, drawn, steps=0)
    with pytest.raises(UserError, match="rounds: found 1 with `assignments: trained`"):
        flowquant.refine(small, model, drawn, steps=3, rounds=1)
    with pytest.raises(UserError, match=r"Lower `learning_rate`"):
        flowquant.refine(small, model, drawn, steps=60, batch=8, learning_rate=1e9)
