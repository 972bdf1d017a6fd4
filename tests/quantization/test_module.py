"""Any module quantized in memory: what is quantized, what stays, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from tqdm import tqdm

import flowquant
from flowquant.models.family import matrices
from flowquant.models.model import build_network
from flowquant.quantization import apply
from flowquant.quantization.module import factors, factors_by_name
from flowquant.quantization.record import quantized_record
from flowquant.runtime.errors import UserError
from tiny import TINY_MODEL, TINY_NETWORKS


class Everything(nn.Module):
    """A layer of each kind, a tied weight, and buffers of several types."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.again = nn.Linear(8, 8)
        self.again.weight = self.linear.weight
        self.convolutions = nn.ModuleList([nn.Conv1d(8, 8, 3), nn.Conv2d(8, 8, 3)])
        self.up = nn.ConvTranspose3d(8, 4, 2)
        self.attention = nn.MultiheadAttention(8, 2)
        self.norms = nn.ModuleList([nn.LayerNorm((3, 8)), nn.BatchNorm1d(8)])
        self.table = nn.Embedding(9, 8)
        self.head = nn.Linear(8, 9)
        self.head.weight = self.table.weight
        self.position = nn.Parameter(torch.randn(5, 8))
        self.register_buffer("steps", torch.tensor(3001))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("bias", torch.full((2,), -torch.inf))
        self.register_buffer("cache", torch.randn(3), persistent=False)


QUANTIZED = {
    "linear.weight",
    "convolutions.0.weight",
    "convolutions.1.weight",
    "up.weight",
    "attention.in_proj_weight",
    "attention.out_proj.weight",
}


def everything() -> Everything:
    torch.manual_seed(0)
    return Everything()


def test_weights_that_multiply_are_quantized_and_nothing_else() -> None:
    module = everything()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    small = flowquant.quantize(module, bits=2)
    assert set(quantized_record(small).packed) == QUANTIZED
    after = small.state_dict()
    for name, tensor in module.state_dict().items():
        assert tensor.equal(before[name]), name
        assert after[name].dtype == tensor.dtype
    parameters = dict(small.named_parameters())
    for name in QUANTIZED:
        assert all(len(row.unique()) <= 4 for row in parameters[name].detach().flatten(1))
    for name, buffer in module.named_buffers():
        assert dict(small.named_buffers())[name].equal(buffer)
    for name in parameters.keys() - QUANTIZED:
        torch.testing.assert_close(parameters[name], before[name], rtol=1e-3, atol=1e-6)
    assert type(small) is Everything


def test_tied_weights_stay_tied() -> None:
    small = flowquant.quantize(everything(), bits=2)
    assert small.again.weight is small.linear.weight
    assert small.head.weight is small.table.weight
    # A table that is also a matrix stays what tables are.
    assert len(small.table.weight.unique()) > 9


def test_levels_are_those_of_the_stage() -> None:
    for family in TINY_NETWORKS.values():
        network = build_network(replace(TINY_MODEL, network=family))
        assert factors(network) == matrices(network)


def test_names_alone_tell_as_much_of_usual_checkpoints() -> None:
    weights = {
        "wte.weight": torch.zeros(9, 8),
        "model.embed_tokens.weight": torch.zeros(9, 8),
        "label_emb.weight": torch.zeros(9, 8),
        "time_embed.0.weight": torch.zeros(8, 8),
        "time_embedding.linear_1.weight": torch.zeros(8, 8),
        "patch_embed.proj.weight": torch.zeros(8, 3, 2, 2),
        "h.0.ln_1.weight": torch.zeros(8),
        "blocks.0.norm2.weight": torch.zeros(3, 8),
        "blocks.0.attn.in_proj_weight": torch.zeros(8, 8),
        "blocks.0.attn.in_proj_bias": torch.zeros(8),
        "pos_embed": torch.zeros(1, 5, 8),
    }
    assert factors_by_name(weights) == {
        "time_embed.0.weight",
        "time_embedding.linear_1.weight",
        "patch_embed.proj.weight",
        "blocks.0.attn.in_proj_weight",
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_float_types(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 16), nn.LayerNorm(16)).to(dtype)
    small = flowquant.quantize(module, bits=3)
    assert {p.dtype for p in small.parameters()} == {dtype}
    found, original = dict(small.named_parameters()), dict(module.named_parameters())
    assert all(len(row.unique()) <= 8 for row in found["0.weight"])
    if dtype != torch.float64:
        assert found["1.weight"].equal(original["1.weight"])
    assert small(torch.randn(2, 16, dtype=dtype)).isfinite().all()


def test_arguments_are_those_of_a_method() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))

    def weights(bits: int, **arguments: Any) -> dict[str, Tensor]:
        return flowquant.quantize(module, bits, **arguments).state_dict()

    one = weights(1, granularity="tensor", levels="uniform", keep=["1.*"])
    assert len(one["0.weight"].unique()) == 2
    assert len(one["1.weight"].unique()) > 32
    groups = weights(1, granularity={"group": 4}, scope="all")
    assert all(len(part.unique()) <= 2 for part in groups["0.weight"].view(-1, 4))
    assert len(groups["0.bias"].unique()) <= 4
    exact = weights(2, keep=["1.*"], float_dtype="float32")
    assert exact["1.weight"].equal(module.state_dict()["1.weight"])


def with_value(name: str, value: float) -> nn.Module:
    module = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8))
    with torch.no_grad():
        dict(module.named_parameters())[name].view(-1)[3] = value
    return module


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (nn.Linear(8, 8), {"bits": 0}, r"bits: found 0; expected a whole number from 1 to 16"),
        (nn.Linear(8, 8), {"bits": 2.0}, r"bits: found 2\.0"),
        (nn.Linear(8, 8), {"bits": 2, "levels": "kmeans"}, r"levels: found 'kmeans'.*, lloyd; "),
        (nn.Linear(8, 8), {"bits": 2, "scope": "linear"}, r"`linear` is called `matrices` now"),
        (nn.Linear(8, 8), {"bits": 2, "granularity": "column"}, r"granularity: found 'column'"),
        (nn.Linear(8, 8), {"bits": 2, "keep": ["*"]}, r"nothing to quantize among weight, bias"),
        (nn.LayerNorm(8), {"bits": 2}, r"nothing to quantize"),
        (nn.Linear(8, 8, device="meta"), {"bits": 2}, r"no values yet in weight, bias"),
        (nn.LazyLinear(8), {"bits": 2}, r"no values yet in weight, bias"),
        (with_value("0.weight", torch.nan), {"bits": 2}, r"NaN or infinite weights in 0\.weight;"),
        (with_value("1.bias", torch.inf), {"bits": 2}, r"NaN or infinite weights in 1\.bias;"),
        (with_value("1.bias", 1e6), {"bits": 2}, r"1\.bias with values up to 1e\+06.*float32"),
        (with_value("0.weight", 1e6), {"bits": 2}, r"float_dtype: float32"),
    ],
)
def test_mistakes(module: nn.Module, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        flowquant.quantize(module, **arguments)


def test_a_bar_shows_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[dict[str, Any]] = []

    def bar(**settings: Any) -> Any:
        shown.append(settings)
        return tqdm(**settings)

    monkeypatch.setattr(apply, "tqdm", bar)
    flowquant.quantize(nn.Linear(8, 8), bits=2)
    (settings,) = shown
    assert settings["total"] == 2
    assert settings["disable"] is None  # tqdm's word for: where there is no terminal


def test_gradients_and_modes_are_kept() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Dropout())
    module[0].bias.requires_grad_(False)
    module.train()
    small = flowquant.quantize(module, bits=2)
    assert small.training
    assert [p.requires_grad for p in small.parameters()] == [True, False]
    loss: Tensor = small(torch.randn(2, 8)).sum()
    loss.backward()
    assert module[0].weight.grad is None
