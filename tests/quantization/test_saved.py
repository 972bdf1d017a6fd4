"""Quantized modules as files: exact, small, whole, and loaded into what they fit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import flowquant
from flowquant.models.model import read_model
from flowquant.quantization.packed_file import read_quantized
from flowquant.quantization.packed_network import PackedWeight
from flowquant.quantization.variant import load_variant
from flowquant.runtime.errors import UserError
from flowquant.stages.quantize import quantize
from own_net import Net
from quantization.test_module import QUANTIZED, everything
from tiny import TINY_MODEL, TINY_NETWORKS, write_tiny_model


def scrambled(module: nn.Module) -> nn.Module:
    """The same module with other values."""
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.copy_(torch.ones_like(tensor))
    return module


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    small = flowquant.quantize(everything(), bits=2)
    path = tmp_path / "small.safetensors"
    flowquant.save(small, path)
    into = scrambled(everything())
    same = flowquant.load(path, into=into)
    assert same is into
    for name, tensor in small.state_dict().items():
        assert same.state_dict()[name].equal(tensor), name
    assert same.steps.equal(torch.tensor(3001))  # type: ignore[operator]
    assert same.steps.dtype == torch.int64
    # Not persistent: as the module has it.
    assert same.cache.equal(torch.ones(3))  # type: ignore[operator]
    contents, metadata = read_quantized(path)
    assert metadata["version"] == 1
    assert set(metadata["packed"]) == QUANTIZED
    assert metadata["tied"] == {"again.weight": "linear.weight", "head.weight": "table.weight"}
    assert not contents.keys() & metadata["tied"].keys()
    assert contents["mask"].dtype == torch.bool  # type: ignore[union-attr]
    # Loaded, it may be saved again, to the same bytes.
    flowquant.save(same, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_module_that_ties_no_weights_gets_each(tmp_path: Path) -> None:
    flowquant.save(flowquant.quantize(everything(), bits=2), tmp_path / "s")
    untied = everything()
    untied.again.weight = nn.Parameter(torch.zeros(8, 8))
    flowquant.load(tmp_path / "s", into=untied)
    assert untied.again.weight.equal(untied.linear.weight)
    # And a file of the untied is enough for the tied.
    flowquant.save(flowquant.quantize(untied, bits=2), tmp_path / "untied")
    flowquant.load(tmp_path / "untied", into=everything())


def test_one_name_in_the_file_fills_all_of_a_tied_weight(tmp_path: Path) -> None:
    whole = everything().state_dict()
    del whole["again.weight"], whole["head.weight"]
    save_file(whole, tmp_path / "plain.safetensors")
    into = flowquant.load(tmp_path / "plain.safetensors", into=scrambled(everything()))
    assert into.again.weight.equal(whole["linear.weight"])  # type: ignore[union-attr,operator]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_float_types(dtype: torch.dtype, tmp_path: Path) -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16)).to(dtype)

    small = flowquant.quantize(build(), bits=3)
    flowquant.save(small, tmp_path / "s")
    same = flowquant.load(tmp_path / "s", into=scrambled(build()))
    for name, tensor in small.state_dict().items():
        assert same.state_dict()[name].equal(tensor), name
    stored = read_quantized(tmp_path / "s")[0]["1.weight"]
    assert isinstance(stored, Tensor)
    assert stored.dtype == (torch.float16 if dtype == torch.float64 else dtype)


def test_floats_that_were_trained_further_are_saved_exactly(tmp_path: Path) -> None:
    small = flowquant.quantize(nn.Linear(8, 8), bits=2)
    with torch.no_grad():
        small.bias.add_(1e-7)
    flowquant.save(small, tmp_path / "s")
    assert flowquant.load(tmp_path / "s", into=nn.Linear(8, 8)).bias.equal(small.bias)


class WithExtraState(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"epoch": 3}

    def set_extra_state(self, state: Any) -> None:
        pass


def changed() -> nn.Module:
    small = flowquant.quantize(nn.Linear(8, 8), bits=2)
    with torch.no_grad():
        small.weight[0, 0] += 1
    return small


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Linear(8, 8), "one that is not quantized"),
        (changed(), "`weight` with other values than it was quantized to"),
        (flowquant.quantize(WithExtraState(8, 8), bits=2), "`_extra_state`: found a dict"),
    ],
)
def test_what_cannot_be_saved(module: nn.Module, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        flowquant.save(module, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_what_does_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "s"
    flowquant.save(flowquant.quantize(nn.Linear(8, 8), bits=2), path)

    def refusal(into: nn.Module | None) -> str:
        with pytest.raises(UserError) as error:
            flowquant.load(path, into=into)
        return str(error.value)

    assert "of another shape: weight (8, 8) for (4, 8), bias (8,) for (4,)" in refusal(
        nn.Linear(8, 4)
    )
    assert "found unexpected: bias; expected" in refusal(nn.Linear(8, 8, bias=False))
    other = refusal(nn.Sequential(nn.Linear(8, 8)))
    assert "missing: 0.weight, 0.bias; unexpected: bias, weight" in other
    assert "no memory for weight, bias" in refusal(nn.Linear(8, 8, device="meta"))
    assert "into=module" in refusal(None)
    path.write_bytes(path.read_bytes()[:-3])
    assert "unreadable" in refusal(nn.Linear(8, 8))


@pytest.mark.parametrize("family", TINY_NETWORKS)
def test_files_of_the_workflow_build_their_networks(family: str, tmp_path: Path) -> None:
    config = replace(TINY_MODEL, network=TINY_NETWORKS[family])
    path = write_tiny_model(tmp_path, config)
    full = flowquant.load(path)
    assert not full.training
    for name, tensor in read_model(path)[0].items():
        assert full.state_dict()[name].equal(tensor)
    # By the stage and by the function: the same weights, in files that both read.
    quantize(path, output=tmp_path / "stage", bits=2)
    flowquant.save(flowquant.quantize(full, bits=2), tmp_path / "function")
    inputs = torch.randn(3, 1, 8, 8), torch.rand(3), torch.tensor([0, 1, 2])
    found = []
    for file in (tmp_path / "stage", tmp_path / "function"):
        loaded, (variant, _) = flowquant.load(file), load_variant(file)
        for name, tensor in loaded.state_dict().items():
            assert tensor.equal(variant.state_dict()[name])
        packed = flowquant.load(file, packed=True)
        torch.testing.assert_close(packed(*inputs), loaded(*inputs))
        found.append(loaded)
    for name, tensor in found[0].state_dict().items():
        assert tensor.equal(found[1].state_dict()[name])


def test_files_of_the_workflow_fill_the_class_that_they_name(tmp_path: Path) -> None:
    config = replace(TINY_MODEL, network=TINY_NETWORKS["custom"])
    path = write_tiny_model(tmp_path, config)
    quantize(path, output=tmp_path / "packed", bits=2)
    for file in (path, tmp_path / "packed"):
        built, filled = flowquant.load(file), flowquant.load(file, into=Net())
        for name, tensor in built.state_dict().items():
            assert tensor.equal(filled.state_dict()[name]), name
        # Not stored: as the class makes them.
        assert built.get_buffer("order").equal(filled.order)  # type: ignore[arg-type]
        assert built.get_buffer("frequencies").equal(filled.frequencies)
        images = flowquant.sample(built, [0, 1], steps=2)
        settings: dict[str, Any] = {"sigma": config.flow.sigma, "shape": (1, 8, 8), "steps": 2}
        same = flowquant.sample(
            filled.eval(), [0, 1], call=lambda net, x, t, y: net(t, x, labels=y), **settings
        )
        assert images.equal(same)


def test_a_file_of_another_network_is_no_variant(tmp_path: Path) -> None:
    flowquant.save(flowquant.quantize(nn.Linear(8, 8), bits=2), tmp_path / "s")
    for packed in (False, True):
        with pytest.raises(UserError, match="found no `model`; expected a quantized model"):
            load_variant(tmp_path / "s", packed=packed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_in_memory(dtype: torch.dtype, tmp_path: Path) -> None:
    def build() -> nn.Sequential:
        inner = nn.Sequential(nn.Linear(64, 64), nn.MultiheadAttention(64, 2, batch_first=True))
        return inner.to(dtype)

    small = flowquant.quantize(build(), bits=2)
    flowquant.save(small, tmp_path / "s")
    packed = flowquant.load(tmp_path / "s", into=build(), packed=True)
    assert isinstance(packed[0].weight, PackedWeight)
    x = torch.randn(2, 3, 64, dtype=dtype)
    torch.testing.assert_close(packed[0](x), small[0](x))
    torch.testing.assert_close(packed[1](x, x, x)[0], small[1](x, x, x)[0])
    with pytest.raises(UserError, match=r"`0\.weight` packed in memory"):
        flowquant.save(packed, tmp_path / "again")
