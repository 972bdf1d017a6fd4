"""Checkpoints as each library's own code saves them."""

import argparse
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from flowquant.config.model import ModelConfig
from flowquant.models.model import build_network
from flowquant.models.published import fitting_weights
from flowquant.runtime.errors import UserError
from tiny import TINY_MODEL


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network(TINY_MODEL)


@pytest.fixture
def average(network: nn.Module) -> nn.Module:
    other = deepcopy(network)
    for parameter in other.parameters():
        parameter.data += parameter.requires_grad
    return other


class EMA(nn.Module):
    """As flow_matching's examples/image/models/ema.py."""

    def __init__(self, model: nn.Module, average: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("num_updates", torch.tensor(0))
        self.shadow_params = nn.ParameterList(
            nn.Parameter(p.clone().detach(), requires_grad=False)
            for p in average.parameters()
            if p.requires_grad
        )


def trained(network: nn.Module) -> dict[str, Any]:
    """What stands beside the weights."""
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    return {"optim": optimizer.state_dict(), "sched": schedule.state_dict(), "step": 4}


def loaded(path: Path, weights: str | None = None) -> tuple[dict[str, Tensor], str]:
    return fitting_weights(path, TINY_MODEL, weights)


def assert_are(found: dict[str, Tensor], network: nn.Module) -> None:
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[name], t) for name, t in network.state_dict().items())


@pytest.mark.parametrize(
    ("averaged", "plain", "wrapper"),
    [
        ("ema_model", "net_model", ""),  # torchcfm, examples/images/cifar10
        ("ema_model", "net_model", "module."),  # the same on several GPUs
        ("ema", "model", ""),  # SiT, DiT
        ("ema", "model", "_orig_mod."),  # compiled
        ("ema", "model", "module._orig_mod."),
    ],
)
def test_two_sets_of_weights(
    tmp_path: Path, network: nn.Module, average: nn.Module, averaged: str, plain: str, wrapper: str
) -> None:
    def named(net: nn.Module) -> dict[str, Tensor]:
        return {wrapper + name: tensor for name, tensor in net.state_dict().items()}

    path = tmp_path / "weights.pt"
    torch.save({plain: named(network), averaged: named(average), **trained(network)}, path)
    found, taken = loaded(path)
    assert taken == averaged
    assert_are(found, average)
    found, taken = loaded(path, plain)
    assert taken == plain
    assert_are(found, network)
    with pytest.raises(UserError, match=rf"under `other`; expected one of {averaged}, {plain}"):
        loaded(path, "other")


def test_flow_matchings_averages_are_named_by_their_order(
    tmp_path: Path, network: nn.Module, average: nn.Module
) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": EMA(network, average).state_dict(), "epoch": 3}, path)
    found, taken = loaded(path)
    assert taken == "model.shadow_params"
    assert_are(found, average)
    found, taken = loaded(path, "model.model")
    assert taken == "model.model"
    assert_are(found, network)


def test_averages_of_other_weights(tmp_path: Path, network: nn.Module) -> None:
    state = EMA(network, network).state_dict()
    del state["shadow_params.3"]
    torch.save({"model": state}, tmp_path / "checkpoint.pth")
    with pytest.raises(UserError, match=r"found \d+ averages, unnamed, for \d+ weights"):
        loaded(tmp_path / "checkpoint.pth")


def test_a_namespace_beside_the_weights_says_how_to_leave_it_out(
    tmp_path: Path, network: nn.Module
) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"model": network.state_dict(), "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(UserError, match=r"argparse\.Namespace beside them") as error:
        loaded(path)
    snippet = str(error.value).partition("new file:\n")[2]
    before = torch.serialization.get_safe_globals()
    try:
        exec("\n".join(line.strip() for line in snippet.splitlines()), {})
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)
    assert_are(loaded(tmp_path / "checkpoint_weights.pt")[0], network)


INDEX = "diffusion_pytorch_model.safetensors.index.json"


def sharded(folder: Path, weights: dict[str, Tensor]) -> None:
    """As diffusers' save_pretrained with a small max_shard_size."""
    shards = {f"diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors": i for i in range(2)}
    places = {name: list(shards)[i % 2] for i, name in enumerate(weights)}
    for shard in shards:
        save_file(
            {n: weights[n].contiguous() for n in weights if places[n] == shard}, folder / shard
        )
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index))
    (folder / "config.json").write_text("{}")


@pytest.mark.parametrize("named", [".", INDEX])
def test_weights_in_several_files(tmp_path: Path, network: nn.Module, named: str) -> None:
    sharded(tmp_path, network.state_dict())
    found, taken = loaded(tmp_path / named)
    assert taken == ""
    assert_are(found, network)


def test_a_folder_of_one_file(tmp_path: Path, network: nn.Module) -> None:
    save_file(network.state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    assert_are(loaded(tmp_path)[0], network)


@pytest.mark.parametrize(
    "content", ['{"weight_map": {"a": "../x.safetensors"}}', '{"metadata": {}}']
)
def test_an_index_that_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / INDEX).write_text(content)
    with pytest.raises(UserError, match="found no `weight_map`"):
        loaded(tmp_path)


def test_another_architecture_is_told_as_that(tmp_path: Path) -> None:
    foreign = {f"down_blocks.{i}.conv.weight": torch.zeros(2) for i in range(5)}
    save_file(foreign, tmp_path / "foreign.safetensors")
    model: ModelConfig = TINY_MODEL
    with pytest.raises(UserError, match=r"another architecture: down_blocks.* and 2 more") as error:
        fitting_weights(tmp_path / "foreign.safetensors", model)
    assert all(way in str(error.value) for way in ("unet", "dit", "custom", "flowquant.quantize"))
