"""Allocation of widths under a budget, and the stages around it."""

import itertools
import json
from pathlib import Path

import pytest
import torch

from flowquant.config.method import MethodConfig, SensitivityConfig
from flowquant.quantization.allocation import Option, choose_widths, read_allocation, worthwhile
from flowquant.quantization.packed_file import read_quantized
from flowquant.runtime.errors import UserError
from flowquant.stages.allocate import allocate
from flowquant.stages.plot_allocation import plot_allocation
from flowquant.stages.quantize import quantize
from flowquant.stages.sensitivity import sensitivity
from tiny import write_tiny_dataset, write_tiny_model

METHOD = MethodConfig(
    levels="lloyd",
    granularity="tensor",
    scope="matrices",
    keep=(),
    least_values=5,
    levels_dtype="float16",
    float_dtype="float16",
)


def options(scale: float, values: int) -> list[Option]:
    return [Option(b, b * values, scale * 4.0**-b) for b in (1, 2, 3, 4)]


def test_steps_that_do_not_pay_are_left_out() -> None:
    given = [Option(1, 10, 8.0), Option(2, 20, 7.9), Option(3, 30, 1.0), Option(4, 40, 1.5)]
    assert [option.width for option in worthwhile(given)] == [1, 3]


def test_greedy_allocation_is_near_the_best() -> None:
    tensors = {name: options(scale, 100) for name, scale in (("a", 1), ("b", 30), ("c", 5))}
    for budget in (1.0, 1.7, 2.0, 2.7, 3.4, 4.0):
        chosen = choose_widths(tensors, 0, 300, budget)
        assert sum(option.stored_bits for option in chosen.values()) <= budget * 300
        best = min(
            sum(option.distortion for option in choice)
            for choice in itertools.product(*tensors.values())
            if sum(option.stored_bits for option in choice) <= budget * 300
        )
        assert sum(option.distortion for option in chosen.values()) == pytest.approx(best)


def test_an_impossible_budget_says_the_least_possible() -> None:
    with pytest.raises(UserError, match=r"0\.9 effective bits.*at least 1\.200"):
        choose_widths({"a": options(1, 100)}, 20, 100, 0.9)


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    path = tmp_path / "sensitivity.json"
    settings = SensitivityConfig(widths=(1, 2, 4), images=64)
    sensitivity(
        model=write_tiny_model(tmp_path),
        data=write_tiny_dataset(tmp_path),
        output=path,
        dataset="tiny",
        method=METHOD,
        trials=settings,
        device="cpu",
    )
    return path


def test_from_measurement_to_a_file_within_budget(measured: Path, tmp_path: Path) -> None:
    content = json.loads(measured.read_text())
    for tensor in content["tensors"].values():
        errors = [option["velocity_error"] for option in tensor["options"]]
        assert errors[0] > errors[-1] >= 0
    allocation = tmp_path / "4.5bit.json"
    allocate(sensitivity=measured, output=allocation, variant="mixed/4.5bit", budget=4.5)
    chosen = json.loads(allocation.read_text())
    assert chosen["effective_bits"] <= 4.5
    plot_allocation(allocation=allocation, outputs=(tmp_path / "plot.png",), dpi=50)
    packed, report = tmp_path / "mixed.safetensors", tmp_path / "mixed.json"
    quantize(
        model=tmp_path / "model.safetensors",
        output=packed,
        report=report,
        method=METHOD,
        dataset="tiny",
        variant="mixed/4.5bit",
        allocation=allocation,
        device="cpu",
    )
    assert json.loads(report.read_text())["effective_bits"] == pytest.approx(
        chosen["effective_bits"], rel=0.01
    )
    assert read_quantized(packed)[1]["bits"] is None


def test_a_stage_names_the_least_budget(measured: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="least possible for this model"):
        allocate(
            sensitivity=measured, output=tmp_path / "a.json", variant="mixed/0.5bit", budget=0.5
        )


def test_an_allocation_of_another_method_is_refused(measured: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    allocate(sensitivity=measured, output=path, variant="mixed/5bit", budget=5)
    with pytest.raises(UserError, match=r"do not match.*other\.weight"):
        read_allocation(path, ["other.weight"])


def test_measuring_does_not_change_the_model(measured: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.json"
    sensitivity(
        model=tmp_path / "model.safetensors",
        data=tmp_path / "data.safetensors",
        output=again,
        dataset="tiny",
        method=METHOD,
        trials=SensitivityConfig(widths=(1, 2, 4), images=64),
        device="cpu",
    )
    assert again.read_text() == measured.read_text()
    assert torch.get_num_threads() >= 1
