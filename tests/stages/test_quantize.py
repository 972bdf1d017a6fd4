"""Quantizing a model file: scope, sizes, reports, bad input."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flowquant.config.method import MethodConfig
from flowquant.config.model import ConditionConfig
from flowquant.config.reading import check
from flowquant.models.model import read_model, write_model
from flowquant.quantization.codebook import Codebook
from flowquant.quantization.packed_file import read_quantized
from flowquant.runtime.errors import UserError
from flowquant.stages.inspect import inspect
from flowquant.stages.quantize import quantize
from tiny import TINY_MODEL, write_tiny_model

HALF: dict[str, Any] = {"levels_dtype": "float16", "float_dtype": "float16"}


def method(**changes: Any) -> MethodConfig:
    defaults: dict[str, Any] = {
        "levels": "lloyd",
        "granularity": "tensor",
        "scope": "all",
        "keep": (),
        "least_values": 5,
    }
    return MethodConfig(**(defaults | changes))


def run(folder: Path, bits: int = 2, **changes: Any) -> tuple[Path, dict[str, Any]]:
    output, report = folder / "packed.safetensors", folder / "report.json"
    quantize(
        model=write_tiny_model(folder),
        output=output,
        report=report,
        method=method(**changes),
        dataset="tiny",
        variant="m/2bit",
        bits=bits,
    )
    return output, json.loads(report.read_text())


@pytest.mark.parametrize("granularity", ["tensor", "row", "group:16", "scaled", "network"])
@pytest.mark.parametrize(
    "levels", ["uniform", "equal_mass", "pwl", "log2", "uniform_mse", "normal_float", "lloyd"]
)
def test_every_method_writes_a_file_that_reads_back(
    levels: str, granularity: str, tmp_path: Path
) -> None:
    output, report = run(tmp_path, levels=levels, granularity=granularity)
    found, metadata = read_quantized(output)
    weights, _ = read_model(tmp_path / "model.safetensors")
    assert found.keys() == weights.keys()
    assert report["effective_bits"] == metadata["effective_bits"] < 32
    assert report["bytes"] == output.stat().st_size
    for name, content in found.items():
        values = content.expand() if isinstance(content, Codebook) else content
        assert values.shape == weights[name].shape


def test_half_floats_make_the_file_smaller(tmp_path: Path) -> None:
    _, full = run(tmp_path, scope="matrices", granularity="row")
    _, half = run(tmp_path, scope="matrices", granularity="row", **HALF)
    assert half["effective_bits"] < full["effective_bits"] - 2


def test_w2_is_the_root_of_the_squared_error_where_assignment_is_monotone(tmp_path: Path) -> None:
    _, report = run(tmp_path, levels="equal_mass")
    for tensor in report["tensors"].values():
        assert tensor["w2"] == pytest.approx(tensor["mean_squared_error"] ** 0.5, rel=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(bad: float, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path)
    weights, _ = read_model(path)
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    weights["out_proj.bias"][1] = bad
    write_model(path, weights, TINY_MODEL, {})
    with pytest.raises(UserError, match=r"NaN or infinite values in out_proj\.bias"):
        quantize(
            model=path,
            output=tmp_path / "o",
            report=tmp_path / "r",
            method=method(),
            dataset="tiny",
            variant="m/2bit",
            bits=2,
        )


def test_values_beyond_float16_are_refused(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path)
    weights, _ = read_model(path)
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    weights["pos_emb"][:] = 1e6
    write_model(path, weights, TINY_MODEL, {})
    with pytest.raises(UserError, match=r"1e\+06.*float32"):
        quantize(
            model=path,
            output=tmp_path / "o",
            report=tmp_path / "r",
            method=method(**HALF),
            dataset="tiny",
            variant="m/2bit",
            bits=2,
        )
    assert not (tmp_path / "o").exists()


def test_an_unknown_level_name_lists_the_known() -> None:
    content = {
        "run": "r",
        "datasets": ["d"],
        "bits": [2],
        "presets": {},
        "methods": {"m": {"levels": "kmeans"}},
    }
    with pytest.raises(
        UserError, match=r"methods\.m\.levels.*'kmeans'.*uniform, equal_mass, .*lloyd"
    ):
        check(content)


def test_one_of_bits_and_allocation(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one of the two"):
        quantize(
            model=write_tiny_model(tmp_path),
            output=tmp_path / "o",
            report=tmp_path / "r",
            method=method(),
            dataset="tiny",
            variant="m/2bit",
        )


def test_inspect_prints_every_tensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, report = run(tmp_path, granularity="row", scope="matrices", **HALF)
    inspect(output)
    alone = capsys.readouterr().out
    inspect(output, tmp_path / "model.safetensors")
    against = capsys.readouterr().out
    assert len(against.splitlines()) == len(alone.splitlines())
    for name in report["tensors"]:
        assert name in alone
    assert "effective bits" in alone
    assert "lloyd, 2 bits, granularity row, scope matrices" in alone


def test_inspect_refuses_another_model(tmp_path: Path) -> None:
    output, _ = run(tmp_path)
    other = tmp_path / "other.safetensors"
    config = replace(TINY_MODEL, condition=ConditionConfig(kind="class", count=4))
    write_tiny_model(tmp_path, config).rename(other)
    with pytest.raises(UserError, match="other tensors"):
        inspect(output, other)
