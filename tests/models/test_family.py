"""What any family of networks must be: a new one needs a tiny section in `tiny.py`, no test."""

from dataclasses import replace
from typing import Any, get_args, get_type_hints

import pytest
import torch
from torch import Tensor, nn

from flowquant.config.model import ConditionConfig, ModelConfig
from flowquant.config.network import Network
from flowquant.models.custom import CustomNetwork
from flowquant.models.family import FAMILIES, matrices
from flowquant.models.model import build_network, empty_inputs, empty_network, load_network
from tiny import TINY_MODEL, TINY_NETWORKS

CLASSES = torch.tensor([0, 1, 2])


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest) -> ModelConfig:
    return replace(TINY_MODEL, network=TINY_NETWORKS[request.param])


@pytest.fixture
def network(model: ModelConfig) -> nn.Module:
    """A network whose every parameter counts, in evaluation mode."""
    torch.manual_seed(0)
    network = build_network(model).eval()
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network


@pytest.fixture
def given() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(3, 1, 8, 8), torch.tensor([0.0, 0.4, 1.0]), CLASSES


def test_every_family_that_can_be_said_is_there_and_tested() -> None:
    sections = get_args(get_args(Network)[0])
    said = {get_args(get_type_hints(section)["family"])[0]: section for section in sections}
    assert set(said) == set(FAMILIES)
    assert {name: type(section) for name, section in TINY_NETWORKS.items()} == said


def test_all_that_is_stored_are_parameters_whose_names_the_configuration_tells(
    model: ModelConfig, network: nn.Module
) -> None:
    shapes = {name: tensor.shape for name, tensor in network.named_parameters()}
    assert {name: tensor.shape for name, tensor in network.state_dict().items()} == shapes
    assert {n: t.shape for n, t in empty_network(model).state_dict().items()} == shapes


def test_a_network_is_its_weights(
    model: ModelConfig, network: nn.Module, given: tuple[Tensor, ...]
) -> None:
    again = load_network(network.state_dict(), model)
    with torch.no_grad():
        assert torch.equal(again(*given), network(*given))
    lacking = dict(list(network.state_dict().items())[1:])
    with pytest.raises(RuntimeError, match="Missing key"):
        load_network(lacking, model)


def test_velocity_has_the_shape_and_type_of_images(
    network: nn.Module, given: tuple[Tensor, ...]
) -> None:
    out = network(*given)
    assert (out.shape, out.dtype) == (given[0].shape, torch.float32)
    assert out.isfinite().all()


@torch.no_grad()
def test_each_image_is_by_itself(network: nn.Module, given: tuple[Tensor, ...]) -> None:
    together = network(*given, torch.tensor([1.0, 0.0, 1.0]))
    for row in range(3):
        own = [part[row : row + 1] for part in given]
        kept = torch.tensor([float(row != 1)])
        torch.testing.assert_close(network(*own, kept), together[row : row + 1])


@torch.no_grad()
def test_one_time_serves_all(network: nn.Module, given: tuple[Tensor, ...]) -> None:
    x, _, condition = given
    one = network(x, torch.tensor([0.3]), condition)
    torch.testing.assert_close(one, network(x, torch.full((3,), 0.3), condition))


@torch.no_grad()
def test_time_and_condition_are_seen(network: nn.Module, given: tuple[Tensor, ...]) -> None:
    x, time, condition = given
    out = network(*given)
    for other in ((x, time + 0.1, condition), (x, time, condition.flip(0)), (x + 0.1, *given[1:])):
        assert (network(*other)[0] - out[0]).abs().max() > 1e-4


@torch.no_grad()
def test_what_is_not_kept_is_not_seen(network: nn.Module, given: tuple[Tensor, ...]) -> None:
    x, time, condition = given
    kept = torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(network(*given, torch.ones(3)), network(*given))
    out, other = network(*given, kept), network(x, time, condition.flip(0), kept)
    torch.testing.assert_close(out[1:], other[1:])
    torch.testing.assert_close(out[:1], network(*given)[:1])
    assert (out - network(*given))[1:].abs().amax((1, 2, 3)).min() > 1e-4


@torch.no_grad()
def test_evaluation_draws_nothing(network: nn.Module, given: tuple[Tensor, ...]) -> None:
    state = torch.get_rng_state()
    assert torch.equal(network(*given), network(*given))
    assert torch.equal(torch.get_rng_state(), state)


def test_training_drops_values_and_reaches_all_parameters(
    network: nn.Module, given: tuple[Tensor, ...]
) -> None:
    network.train()
    assert not torch.equal(network(*given), network(*given))
    network(*given, torch.tensor([1.0, 0.0, 1.0])).square().mean().backward()
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    idle = [name for name, p in trained.items() if p.grad is None or not bool(p.grad.any())]
    assert not idle


@torch.no_grad()
def test_a_reduced_precision_is_near(network: nn.Module, given: tuple[Tensor, ...]) -> None:
    exact = network(*given)
    network.cast(torch.bfloat16)  # type: ignore[operator]
    reduced = [p.numel() for p in network.parameters() if p.dtype == torch.bfloat16]
    out = network(*given)
    if isinstance(network, CustomNetwork):  # whose layers cast for themselves
        assert not reduced and not torch.equal(out, exact)
    else:
        assert sum(reduced) > 0.5 * sum(p.numel() for p in network.parameters())
    assert out.dtype == torch.float32
    assert (out - exact).norm() / exact.norm() < 0.03


@torch.no_grad()
def test_time_is_exact_in_a_reduced_precision(
    network: nn.Module, given: tuple[Tensor, ...]
) -> None:
    """In bfloat16, 999 and 1,000 are one number."""
    x, _, condition = given
    network.cast(torch.bfloat16)  # type: ignore[operator]
    outs = [network(x, torch.tensor([time]), condition) for time in (999.0, 1000.0)]
    assert not torch.equal(*outs)


def test_what_it_takes_is_counted_without_memory(model: ModelConfig) -> None:
    network = empty_network(model).to("meta").train()
    assert network(*empty_inputs(model, 5)).shape == (5, 1, 8, 8)


def test_the_middle_is_a_part_whose_output_has_dimensions(
    network: nn.Module, given: tuple[Tensor, ...]
) -> None:
    seen: list[Tensor] = []
    middle: Any = network.middle
    assert middle in set(network.modules())
    middle.register_forward_hook(lambda *args: seen.append(args[2]))
    network(*given)
    assert [out.dim() in (3, 4) for out in seen] == [True]


def test_most_weights_are_matrices_and_none_is_time_s_or_the_condition_s(
    network: nn.Module, given: tuple[Tensor, ...]
) -> None:
    parameters = dict(network.named_parameters())
    sizes = {name: parameter.numel() for name, parameter in parameters.items()}
    chosen = matrices(network)
    # In a network this small times take up much room.
    assert sum(sizes[name] for name in chosen) > 0.7 * sum(sizes.values())
    assert all(parameters[name].dim() > 1 for name in chosen)
    embedders: Any = network.embedders
    early = {id(parameter) for module in embedders for parameter in module.parameters()}
    assert len(early) > 1 or isinstance(network, CustomNetwork)
    assert not [name for name in chosen if id(parameters[name]) in early]


@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - {"custom"}))
def test_attributes_are_taken_or_not_seen(family: str) -> None:
    """By the condition that is advised for them."""
    section: Any = TINY_NETWORKS[family]
    model = replace(
        TINY_MODEL,
        condition=ConditionConfig(kind="attributes", count=5),
        network=replace(section, condition=section.for_attributes),
    )
    inputs = torch.randn(2, 1, 8, 8), torch.rand(2), torch.ones(2, 5, dtype=torch.uint8)
    assert build_network(model)(*inputs).shape == (2, 1, 8, 8)
