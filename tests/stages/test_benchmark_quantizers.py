"""What is measured of a model: seconds at every width, and its packed forms."""

import json
from pathlib import Path

import pytest

from flowquant.benchmark import packed
from flowquant.stages.benchmark_quantizers import benchmark_quantizers
from tiny import write_tiny_model


def test_all_parts_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "BATCHES", (1, 4))
    output = tmp_path / "report.json"
    benchmark_quantizers(output=output, model=write_tiny_model(tmp_path), device="cpu", rows=True)
    report = json.loads(output.read_text())
    seconds = report["quantizing_seconds"]
    assert list(seconds["equal_mass, tensor"]) == [str(bits) for bits in (*range(1, 9), 16)]
    assert set(seconds) == {
        "equal_mass, tensor",
        "lloyd, tensor",
        "lloyd, row",
        "double argsort, 16 bits",
    }
    running = report["running"]
    weights = [running[f"packed {bits} bits, batch 1"]["weights_mib"] for bits in (1, 2, 4, 8)]
    assert weights == sorted(weights)
    assert weights[0] < weights[-1] <= running["full, batch 4"]["weights_mib"]
    for bits in (1, 2, 4, 8):
        size = (tmp_path / f"{bits}bit.safetensors").stat().st_size / 2**20
        assert running[f"packed {bits} bits"]["file_mib"] == size
