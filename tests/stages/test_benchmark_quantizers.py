"""What is measured of a model: seconds at every width, and its packed forms."""

import json
from pathlib import Path

import pytest

from flowquant.benchmark import packed
from flowquant.stages.benchmark_quantizers import benchmark_quantizers
from tiny import write_tiny_model


def test_all_parts_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowquant.stages.benchmark_quantizers.BATCHES", (1, 4))
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
    running = {(row["weights"], row["images"]): row for row in report["running"]}
    forms = [f"{bits} bit{'s' * (bits > 1)}" for bits in packed.WIDTHS]
    assert set(running) == {(form, images) for form in ("full", *forms) for images in (1, 4)}
    weights = [running[form, 1]["weights_mib"] for form in forms]
    assert weights == sorted(weights)
    assert weights[0] < weights[-1] <= running["full", 4]["weights_mib"]
    for row in running.values():
        assert (row["stored_mib"] is None) == (row["weights"] == "full")
        assert row["precision"] == "float32"
        assert row["timing"]["seconds"] > 0
