"""Half a bit a weight: vectors of eight, from a file to refined ones and packed in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import flowquant
from flowquant.config.method import MethodConfig, SensitivityConfig
from flowquant.config.refinement import RefineConfig
from flowquant.models.model import load_network, read_model
from flowquant.models.path import velocity
from flowquant.quantization.codebook import Codebook, effective_bits, expand_all
from flowquant.quantization.packed_file import read_packed, read_quantized
from flowquant.quantization.packed_network import load_packed
from flowquant.runtime.errors import UserError
from flowquant.stages.allocate import allocate
from flowquant.stages.quantize import quantize
from flowquant.stages.refine import refine
from flowquant.stages.sensitivity import sensitivity
from tiny import write_tiny_dataset, write_tiny_model

METHOD = MethodConfig(
    levels="vector:8",
    granularity="scaled",
    scope="matrices",
    keep=("patch_proj.weight", "out_proj.weight"),
    levels_dtype="float16",
)


def test_half_a_bit_end_to_end(tmp_path: Path) -> None:
    model, data = write_tiny_model(tmp_path), write_tiny_dataset(tmp_path)
    plain, refined = tmp_path / "plain.safetensors", tmp_path / "refined.safetensors"
    quantize(model, output=plain, method=METHOD, bits=0.5, device="cpu")
    quantized, metadata = read_quantized(plain)
    books = [content for content in quantized.values() if isinstance(content, Codebook)]
    assert len(books) == 8
    assert {book.bits for book in books} == {4}
    indices = sum(book.indices.numel() * book.bits for book in books)
    assert indices / sum(book.count for book in books) == 0.5
    assert metadata["bits"] == 0.5
    refine(
        model=model,
        unrefined=plain,
        data=data,
        output=refined,
        report=tmp_path / "refined.json",
        curve=tmp_path / "refined.jsonl",
        checkpoint=tmp_path / "refined.pt",
        dataset="tiny",
        variant="v/0.5bit",
        settings=RefineConfig(steps=60, batch=64, assignments="trained", learning_rate=0.01),
        device="cpu",
    )
    error = json.loads((tmp_path / "refined.json").read_text())["velocity_error"]
    assert error["after"] < 0.8 * error["before"]
    trained, _ = read_quantized(refined)
    assert effective_bits(trained) == effective_bits(quantized)
    # Packed in memory it computes what it does expanded.
    contents, _ = read_packed(refined)
    _, config = read_model(model)
    draws = torch.Generator().manual_seed(0)
    points = torch.randn(4, 1, 8, 8, generator=draws), torch.rand(4, generator=draws)
    with torch.no_grad():
        found, expected = (
            velocity(network, config.flow, *points, torch.tensor([0, 1, 2, 0]))
            for network in (
                load_packed(contents, config),
                load_network(expand_all(trained), config),
            )
        )
    torch.testing.assert_close(found, expected)


def test_fractions_are_widths_to_choose_from(tmp_path: Path) -> None:
    model, data = write_tiny_model(tmp_path), write_tiny_dataset(tmp_path)
    measured, allocation = tmp_path / "sensitivity.json", tmp_path / "allocation.json"
    sensitivity(
        model=model,
        data=data,
        output=measured,
        dataset="tiny",
        method=METHOD,
        trials=SensitivityConfig(widths=(0.25, 0.5), images=16),
        device="cpu",
    )
    allocate(measured, allocation, variant="v/20bit", budget=20)
    widths = {entry["width"] for entry in json.loads(allocation.read_text())["tensors"].values()}
    assert widths <= {0.25, 0.5}
    packed = tmp_path / "mixed.safetensors"
    quantize(model, output=packed, method=METHOD, allocation=allocation, device="cpu")
    books = [c for c in read_quantized(packed)[0].values() if isinstance(c, Codebook)]
    assert {book.bits for book in books} == {int(8 * width) for width in widths}


def test_any_module_at_half_a_bit() -> None:
    module = nn.Linear(64, 64)
    small = flowquant.quantize(module, 0.5, levels={"vector": 8}, granularity="scaled")
    rows = small.weight.view(-1, 8)
    scales = rows.norm(dim=1, keepdim=True)
    assert len((rows / scales * 1e3).round().unique(dim=0)) <= 64  # rows of one scale each
    for bits, levels in ((0.5, "lloyd"), (0.3, {"vector": 8}), (3, {"vector": 8}), (True, "lloyd")):
        with pytest.raises(UserError, match=f"bits: found {bits}; expected (a whole|bits·8)"):
            flowquant.quantize(module, bits, levels=levels, granularity="scaled")
