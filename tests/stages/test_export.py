"""Weights of other programs quantized by name, and packed ones written out plainly again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import flowquant
from flowquant.quantization.packed_file import read_quantized
from flowquant.runtime.errors import UserError
from flowquant.stages.export import export
from flowquant.stages.inspect import inspect
from flowquant.stages.quantize import quantize
from tiny import write_tiny_model


@pytest.fixture
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "blocks.0.weight": torch.randn(16, 8),
        "blocks.0.bias": torch.randn(16),
        "half.weight": torch.randn(16, 4, 3, 3).bfloat16(),
        "norm.weight": torch.randn(16).bfloat16(),
        "label_emb.weight": torch.randn(4, 8),
        "steps": torch.tensor(3001),
        "mask": torch.tensor([True, False]),
    }


@pytest.fixture
def packed(weights: dict[str, Tensor], tmp_path: Path) -> Path:
    save_file(weights, tmp_path / "model.safetensors")
    quantize(tmp_path / "model.safetensors", bits=2)
    return tmp_path / "model.2bit.safetensors"


def test_a_file_of_another_program(
    packed: Path, weights: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    contents, metadata = read_quantized(packed)
    assert set(metadata["packed"]) == {"blocks.0.weight", "half.weight"}
    kinds = {name: c.dtype for name, c in contents.items() if isinstance(c, Tensor)}
    assert kinds == {
        "blocks.0.bias": torch.float16,
        "norm.weight": torch.bfloat16,
        "label_emb.weight": torch.float16,
        "steps": torch.int64,
        "mask": torch.bool,
    }
    assert contents["steps"].equal(weights["steps"])  # type: ignore[union-attr]
    quantize(packed.with_name("model.safetensors"), bits=3)
    assert "model.3bit.safetensors: 2 of 7 tensors quantized" in capsys.readouterr().out
    inspect(packed, packed.with_name("model.safetensors"))
    shown = capsys.readouterr().out
    assert all(name in shown for name in weights)
    assert "int64" in shown


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_plain_weights(packed: Path, weights: dict[str, Tensor], dtype: Any) -> None:
    output = packed.with_name("plain.safetensors")
    export(packed, output, dtype)
    plain = load_file(output)
    assert plain.keys() == weights.keys()
    contents, _ = read_quantized(packed)
    for name, content in contents.items():
        values = content if isinstance(content, Tensor) else content.expand()
        kind = getattr(torch, dtype) if values.is_floating_point() else values.dtype
        assert plain[name].equal(values.to(kind)), name
    with safe_open(output, "pt") as file:
        assert file.metadata() == {"format": "pt"}


def test_tied_weights_stand_under_each_name(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    small = flowquant.quantize(model, bits=2)
    flowquant.save(small, tmp_path / "packed")
    export(tmp_path / "packed", tmp_path / "plain.safetensors")
    plain = load_file(tmp_path / "plain.safetensors")
    assert plain.keys() == small.state_dict().keys()
    assert plain["1.weight"].equal(plain["0.weight"])


def test_values_beyond_float16(tmp_path: Path) -> None:
    save_file({"a.weight": 1e6 * torch.randn(8, 8)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="float_dtype: float32"):
        quantize(tmp_path / "model.safetensors", bits=2)
    from dataclasses import replace

    from flowquant.config.method import RECOMMENDED

    wide = replace(RECOMMENDED, levels_dtype="float32")
    quantize(tmp_path / "model.safetensors", tmp_path / "packed", method=wide, bits=2)
    with pytest.raises(UserError, match=r"a\.weight with values up to .*--dtype bfloat16"):
        export(tmp_path / "packed", tmp_path / "plain", "float16")
    export(tmp_path / "packed", tmp_path / "plain", "bfloat16")


def test_mistakes(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="quantized already"):
        quantize(packed, bits=2)
    model = write_tiny_model(tmp_path)
    with pytest.raises(UserError, match="found a model; expected a quantized model"):
        inspect(model)
    with pytest.raises(UserError, match="bits: found 17"):
        quantize(model, bits=17)
    save_file({"a.weight": torch.full((8, 8), torch.nan)}, tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match=r"NaN or infinite weights in a\.weight"):
        quantize(tmp_path / "bad.safetensors", bits=2)


def test_a_damaged_file_is_not_inspected(packed: Path) -> None:
    content = bytearray(packed.read_bytes())
    content[-1] ^= 1
    packed.write_bytes(content)
    with pytest.raises(UserError, match="found content with SHA-256"):
        inspect(packed)
    packed.write_bytes(content[:-1])
    with pytest.raises(UserError, match="unreadable"):
        inspect(packed)
    packed.write_bytes(b"no header")
    with pytest.raises(UserError, match="unreadable"):
        inspect(packed)
