"""A model quantized by a peer: what is written, and what is counted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from flowquant.config.peer import PeerConfig
from flowquant.models.family import matrices
from flowquant.models.model import empty_network, read_model
from flowquant.quantization.variant import load_variant
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import read_metadata
from flowquant.stages.quantize_peer import quantize_peer
from project import ROOT
from tiny import TINY_MODEL, write_tiny_model


def run(folder: Path, program: Path = ROOT / "tests/fake_peer.py", **more: Any) -> dict[str, Any]:
    quantize_peer(
        model=write_tiny_model(folder),
        output=folder / "quantized.safetensors",
        report=folder / "report.json",
        program=program,
        bits=3,
        dataset="tiny",
        variant="fake/3bit",
        device="cpu",
        **more,
    )
    content: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return content


def test_matrices_are_the_peers_and_all_else_is_half(tmp_path: Path) -> None:
    report = run(tmp_path)
    weights, config = read_model(tmp_path / "model.safetensors")
    found, its_config = read_model(tmp_path / "quantized.safetensors")
    assert its_config == config
    chosen = matrices(empty_network(TINY_MODEL))
    assert 0 < len(chosen) < len(weights)
    for name, weight in weights.items():
        if name in chosen:
            assert all(len(row.unique()) <= 8 for row in found[name].flatten(1)), name
            assert not found[name].equal(weight)
        else:
            assert found[name].equal(weight.half().float()), name
        error = float((found[name].double() - weight.double()).square().mean())
        assert report["tensors"][name]["mean_squared_error"] == pytest.approx(error)


def test_bytes_are_those_that_the_peer_counts(tmp_path: Path) -> None:
    report = run(tmp_path)
    weights, _ = read_model(tmp_path / "model.safetensors")
    chosen = matrices(empty_network(TINY_MODEL))
    expected = sum(
        -(-3 * weight.numel() // 8) + 8 * len(weight) if name in chosen else 2 * weight.numel()
        for name, weight in weights.items()
    )
    assert report["bytes"] == expected
    parameters = sum(weight.numel() for weight in weights.values())
    assert report["effective_bits"] == 8 * expected / parameters
    assert report["counted"] is True
    assert (report["peer"], report["bits"], report["settings"]) == ("fake 1", 3, {})


def test_it_is_a_variant_as_others_are(tmp_path: Path) -> None:
    report = run(tmp_path, settings=PeerConfig(group=8, double=True))
    metadata = read_metadata(tmp_path / "quantized.safetensors")
    said = {"peer": "fake 1", "bits": 3, "settings": {"group": 8, "double": True}}
    assert metadata["quantized"] == said
    assert said.items() <= report.items()
    for packed in (False, True):
        network, config = load_variant(tmp_path / "quantized.safetensors", packed)
        assert config == TINY_MODEL
        assert all(torch.isfinite(p).all() for p in network.parameters())


def test_a_peer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    program = tmp_path / "by_mine.py"
    program.write_text("import no_such_peer")
    with pytest.raises(UserError, match="No module named 'no_such_peer'"):
        run(tmp_path, program)
    assert not list(tmp_path.glob("quantized*"))
    assert not list(tmp_path.glob("report*"))
