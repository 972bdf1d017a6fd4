"""Nearness of a quantized model to the full-precision one."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from flowquant.config.evaluation import FidelityConfig, MetricsConfig
from flowquant.config.method import MethodConfig
from flowquant.runtime.errors import UserError
from flowquant.sampling.samples import Origin, write_samples
from flowquant.stages.plot_fidelity import plot_fidelity
from flowquant.stages.quantize import quantize
from flowquant.stages.score import score
from scored import scores
from tiny import write_tiny_model


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    model = write_tiny_model(tmp_path)
    labels = torch.arange(10)
    draws = torch.Generator().manual_seed(0)
    for variant in ("full", "m/2bit"):
        images = torch.randint(256, (10, 1, 8, 8), generator=draws).to(torch.uint8)
        path = tmp_path / f"{variant.replace('/', '_')}.safetensors"
        write_samples(path, images, labels, Origin("tiny", variant, 3))
    for bits in (2, 4):
        quantize(
            model=model,
            output=tmp_path / f"packed{bits}.safetensors",
            report=tmp_path / "r.json",
            method=MethodConfig(
                levels="lloyd", granularity="row", scope="matrices", keep=(), least_values=5
            ),
            dataset="tiny",
            variant="m/2bit",
            bits=bits,
        )
    return {
        "model": model,
        "model_samples": tmp_path / "full.safetensors",
        "samples": tmp_path / "m_2bit.safetensors",
        "fidelity": FidelityConfig(samples=8, steps=5),
        "device": "cpu",
        # Nothing else is measured.
        **dict.fromkeys(("extractors", "real", "weights"), ()),
        "metrics": MetricsConfig(),
    }


def test_fewer_bits_are_farther_away(files: dict[str, Any], tmp_path: Path) -> None:
    written = []
    for bits in (2, 4):
        output = tmp_path / f"f{bits}.json"
        score(**files, quantized=tmp_path / f"packed{bits}.safetensors", output=output)
        written.append(json.loads(output.read_text()))
    found = [one["fidelity"] for one in written]
    for coarse, fine in zip(*(f["paths"]["velocity_error"] for f in found), strict=True):
        assert coarse > 3 * fine
    assert found[0]["paths"]["divergence"][0] == 0
    assert found[0]["paths"]["divergence"][-1] > found[1]["paths"]["divergence"][-1] > 0
    assert found[0]["middle_layer"]["dimensions"] == 32
    assert found[1]["middle_layer"]["variance"] == pytest.approx(
        found[1]["middle_layer"]["full_variance"], rel=0.2
    )
    assert (written[0]["variant"], written[0]["seed"], written[0]["n"]) == ("m/2bit", 3, 10)
    files_of_both, data = (tmp_path / "f2.json", tmp_path / "f4.json"), tmp_path / "p.csv"
    plot_fidelity(scores=files_of_both, outputs=(tmp_path / "p.png",), data=data, dpi=50)
    with data.open(newline="") as file:
        drawn = list(csv.DictReader(file))
    assert len(drawn) == sum(len(result["paths"]["t"]) for result in found)
    assert float(drawn[0]["velocity_error"]) == found[0]["paths"]["velocity_error"][0]


def test_samples_of_another_seed_are_refused(files: dict[str, Any], tmp_path: Path) -> None:
    images = torch.zeros(10, 1, 8, 8, dtype=torch.uint8)
    write_samples(files["samples"], images, torch.arange(10), Origin("tiny", "m", 4))
    with pytest.raises(UserError, match="seed 4"):
        score(**files, quantized=tmp_path / "packed2.safetensors", output=tmp_path / "f.json")


def test_scores_without_fidelity_are_not_drawn(tmp_path: Path) -> None:
    path = tmp_path / "full.json"
    path.write_text(json.dumps(scores(dataset="a", variant="full", seed=0, n=9)))
    with pytest.raises(UserError, match=r"full.json: found no `fidelity`; expected scores of a q"):
        plot_fidelity(scores=(path,), outputs=(), data=tmp_path / "p.csv", dpi=50)
