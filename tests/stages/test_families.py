"""What is measured, allocated and drawn of a quantized network, for each family."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from flowquant.config.method import MethodConfig, SensitivityConfig
from flowquant.models.family import FAMILIES, matrices
from flowquant.models.model import empty_network
from flowquant.stages.allocate import allocate
from flowquant.stages.distances import distances
from flowquant.stages.inspect import inspect
from flowquant.stages.plot_allocation import plot_allocation
from flowquant.stages.plot_levels import plot_levels
from flowquant.stages.quantize import quantize
from flowquant.stages.sensitivity import sensitivity
from tiny import TINY_MODEL, TINY_NETWORKS, write_tiny_dataset, write_tiny_model

METHOD = MethodConfig(
    levels="lloyd",
    granularity="row",
    scope="matrices",
    levels_dtype="float16",
    float_dtype="float16",
)
BUDGET = 9.0


@pytest.mark.parametrize("family", FAMILIES)
def test_from_sensitivity_to_figures(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(TINY_MODEL, network=TINY_NETWORKS[family])
    model = write_tiny_model(tmp_path, config)
    data = write_tiny_dataset(tmp_path)
    measured, widths, report, found, drawn = (tmp_path / f"{n}.json" for n in "mwrfd")
    packed, figures = tmp_path / "q.safetensors", (tmp_path / "plot.png", tmp_path / "bars.png")
    named = {"dataset": "tiny", "variant": "mixed/9bit"}

    trials = SensitivityConfig(widths=(1, 3), images=8)
    sensitivity(
        model=model,
        data=data,
        output=measured,
        dataset="tiny",
        method=METHOD,
        trials=trials,
        device="cpu",
    )
    tensors = json.loads(measured.read_text())["tensors"]
    chosen = matrices(empty_network(config))
    assert tensors.keys() == chosen
    errors = {n: [o["velocity_error"] for o in entry["options"]] for n, entry in tensors.items()}
    # In the tiny U-Net a norm has a channel a group, and takes out what is added to a channel.
    moved = {name: error for name, error in errors.items() if error[0] > 1e-9}
    assert len(moved) > 0.8 * len(errors)
    assert not {name: error for name, error in moved.items() if not error[0] > error[1] > 0}

    allocate(sensitivity=measured, output=widths, variant=named["variant"], budget=BUDGET)
    plot_allocation(allocation=widths, outputs=figures[1:], dpi=40)
    quantize(
        model=model,
        output=packed,
        report=report,
        method=METHOD,
        allocation=widths,
        device="cpu",
        **named,  # type: ignore[arg-type]
    )
    described = json.loads(report.read_text())
    assert described["effective_bits"] <= BUDGET
    quantized = {n: e for n, e in described["tensors"].items() if e["granularity"] == "row"}
    assert quantized.keys() <= chosen
    # A row of a few values takes less room as it is.
    kept = sum(tensors[name]["values"] for name in chosen - quantized.keys())
    assert kept < 0.05 * sum(entry["values"] for entry in tensors.values())
    shapes = {name: tensor.shape for name, tensor in empty_network(config).named_parameters()}
    assert all(entry["groups"] == shapes[name][0] for name, entry in quantized.items())

    distances(
        model=model,
        quantized=packed,
        output=found,
        dataset=named["dataset"],
        variant=named["variant"],
    )
    for name, entry in json.loads(found.read_text())["tensors"].items():
        # A value may be moved to a level beyond those of another row's values.
        assert 0 < entry["w2"] ** 2 < entry["mean_squared_error"], name

    inspect(packed, model)
    printed = capsys.readouterr().out.splitlines()
    rows = {line.split()[0] for line in printed if " row " in line}
    assert rows == quantized.keys()

    plot_levels(
        model=model,
        quantized=(packed,),
        names=(named["variant"],),
        tensor=None,
        outputs=figures[:1],
        data=drawn,
        dpi=40,
    )
    with drawn.open(newline="") as file:
        shown = list(csv.DictReader(file))
    largest = max(sorted(quantized), key=lambda name: tensors[name]["values"])
    assert {(row["tensor"], row["variant"]) for row in shown} == {(largest, named["variant"])}
    # Bins and levels tell of the same values: those of one row.
    row_size = tensors[largest]["values"] // quantized[largest]["groups"]
    for what in ("bin", "level"):
        assert sum(int(row["values"]) for row in shown if row["what"] == what) == row_size
    assert all(figure.stat().st_size > 1000 for figure in figures)
