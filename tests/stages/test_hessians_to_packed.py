"""From Hessians to a packed file: what the stages write, and refuse."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from flowquant.config.compensation import CompensationConfig, PointsConfig
from flowquant.config.method import MethodConfig, SensitivityConfig
from flowquant.config.reading import check
from flowquant.config.refinement import RefineConfig
from flowquant.models.family import matrices
from flowquant.models.model import empty_network, load_network, read_model, write_model
from flowquant.models.path import velocity
from flowquant.quantization.codebook import expand_all
from flowquant.quantization.hessians import Hessians, Moments, read_hessians, write_hessians
from flowquant.quantization.packed_file import read_quantized
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import sha256
from flowquant.stages.hessians import hessians
from flowquant.stages.quantize import quantize
from flowquant.stages.refine import refine
from flowquant.stages.sensitivity import sensitivity
from tiny import TINY_MODEL, write_tiny_dataset, write_tiny_model

METHOD = MethodConfig(levels="uniform_mse", granularity="row", scope="matrices")
EACH = CompensationConfig(sequential=False)


@pytest.fixture
def observed(tmp_path: Path) -> Path:
    return written(tmp_path)


def written(folder: Path, **settings: Any) -> Path:
    path = folder / "hessians.safetensors"
    hessians(
        model=write_tiny_model(folder),
        data=write_tiny_dataset(folder),
        output=path,
        settings=PointsConfig(**({"points": 64} | settings)),
        device="cpu",
    )
    return path


def quantized(folder: Path, name: str, **options: Any) -> Path:
    output = folder / f"{name}.safetensors"
    quantize(
        folder / "model.safetensors",
        output=output,
        report=folder / f"{name}.json",
        bits=2,
        device="cpu",
        **({"method": METHOD} | options),
    )
    return output


def off(folder: Path, packed: Path) -> float:
    """Mean square error of the velocity at the points of the Hessians."""
    tensors = load_file(folder / "hessians.safetensors")
    points = [tensors[f"points.{part}"] for part in ("x", "t", "condition")]
    weights, config = read_model(folder / "model.safetensors")
    networks = [load_network(w, config) for w in (weights, expand_all(read_quantized(packed)[0]))]
    with torch.no_grad():
        full, other = (velocity(network, config.flow, *points) for network in networks)
    return (full - other).square().mean().item()


@pytest.mark.parametrize("source", ["images", "trajectories"])
def test_from_points_to_a_better_file(source: str, tmp_path: Path) -> None:
    observed = written(tmp_path, source=source)
    tensors = load_file(observed)
    assert tensors["points.x"].shape == (64, 1, 8, 8)
    names = {name.removesuffix(".hessian") for name in tensors if name.endswith(".hessian")}
    assert names == matrices(empty_network(TINY_MODEL))
    plain = quantized(tmp_path, "plain")
    each = quantized(tmp_path, "each", hessians=observed, compensate=EACH)
    sequence = quantized(tmp_path, "sequence", hessians=observed)
    errors = [off(tmp_path, path) for path in (plain, each, sequence)]
    assert max(errors[1:]) < 0.8 * errors[0]
    assert "compensate" not in read_quantized(plain)[1]
    said = read_quantized(each)[1]["compensate"]
    assert said == {"points": 2048, "source": "images", "damping": 0.01, "sequential": False}
    assert json.loads((tmp_path / "each.json").read_text())["compensate"] == said
    bits = {read_quantized(path)[1]["effective_bits"] for path in (plain, each, sequence)}
    assert len(bits) == 1


def test_the_same_bytes_again(observed: Path, tmp_path: Path) -> None:
    first = observed.read_bytes()
    assert written(tmp_path).read_bytes() == first
    made = [quantized(tmp_path, name, hessians=observed).read_bytes() for name in ("a", "b")]
    assert made[0] == made[1]


def test_sensitivity_is_that_of_compensated_layers(observed: Path, tmp_path: Path) -> None:
    found = []
    for given in ({}, {"hessians": observed}):
        sensitivity(
            model=tmp_path / "model.safetensors",
            data=tmp_path / "data.safetensors",
            output=tmp_path / "sensitivity.json",
            dataset="tiny",
            method=METHOD,
            trials=SensitivityConfig(widths=(2,), images=64),
            device="cpu",
            **given,  # type: ignore[arg-type]
        )
        tensors = json.loads((tmp_path / "sensitivity.json").read_text())["tensors"]
        found.append({name: entry["options"][0] for name, entry in tensors.items()})
    plain, compensated = found
    assert plain.keys() == compensated.keys()
    for name, option in plain.items():
        assert compensated[name]["velocity_error"] < option["velocity_error"]
        assert compensated[name]["stored_bits"] == option["stored_bits"]


def test_refinement_starts_where_compensation_ended(observed: Path, tmp_path: Path) -> None:
    packed = quantized(tmp_path, "compensated", hessians=observed)
    before = {}
    for assignments in ("fixed", "trained"):
        report = tmp_path / f"{assignments}.json"
        refine(
            model=tmp_path / "model.safetensors",
            unrefined=packed,
            data=tmp_path / "data.safetensors",
            output=tmp_path / "refined.safetensors",
            report=report,
            curve=tmp_path / "curve.jsonl",
            checkpoint=tmp_path / "checkpoint.pt",
            dataset="tiny",
            variant="m/2bit",
            settings=RefineConfig(steps=1, batch=4, assignments=assignments),
            device="cpu",
        )
        before[assignments] = json.loads(report.read_text())["velocity_error"]["before"]
        assert "compensate" in read_quantized(tmp_path / "refined.safetensors")[1]
    assert before["trained"] == pytest.approx(before["fixed"], rel=1e-4)


def test_hessians_of_another_model(observed: Path, tmp_path: Path) -> None:
    weights, config = read_model(tmp_path / "model.safetensors")
    changed = {n: w + 1 for n, w in weights.items()}
    write_model(tmp_path / "model.safetensors", changed, config, {})
    with pytest.raises(UserError, match="found Hessians of another model"):
        quantized(tmp_path, "other", hessians=observed)


def test_weights_that_are_not_known_to_be_matrices(observed: Path, tmp_path: Path) -> None:
    save_file({"a.weight": torch.randn(8, 8)}, tmp_path / "other.safetensors")
    for model, method in (
        (tmp_path / "other.safetensors", METHOD),
        (tmp_path / "model.safetensors", replace(METHOD, scope="all")),
    ):
        with pytest.raises(UserError, match="--hessians: found compensation of weights"):
            quantize(model, method=method, bits=2, hessians=observed, device="cpu")


def test_a_hessian_that_is_none(observed: Path, tmp_path: Path) -> None:
    weights, config = read_model(tmp_path / "model.safetensors")
    source = sha256(tmp_path / "model.safetensors")
    found = read_hessians(observed, source, weights, config.condition)
    layers = {n: Moments(-moments.hessian, moments.mean) for n, moments in found.layers.items()}
    write_hessians(
        observed, Hessians(found.points, layers), {"source_sha256": source, "points": 64}
    )
    with pytest.raises(
        UserError,
        match=r"not positive definite.*Raise `compensate\.damping` or `compensate\.points`",
    ):
        quantized(tmp_path, "bare", hessians=observed, compensate=EACH)


def test_what_goes_together_with_compensation() -> None:
    row: dict[str, Any] = {"levels": "lloyd", "compensate": {}}
    with pytest.raises(UserError, match=r"methods\.m\.compensate.*scope: all.*scope: matrices"):
        check(configuration(row))
    row["scope"] = "matrices"
    check(configuration(row | {"refine": {"steps": 3, "assignments": "trained"}}))
    with pytest.raises(UserError, match=r"methods\.m\.refine\.rounds.*2 beside `compensate`"):
        check(configuration(row | {"refine": {"steps": 3, "rounds": 2}}))


def configuration(row: dict[str, Any]) -> dict[str, Any]:
    from everything import EVERYTHING

    return EVERYTHING | {"methods": {"m": row}, "sweep": {}}


def test_embedders_go_the_same_way_and_are_refined(observed: Path) -> None:
    folder = observed.parent
    method = replace(METHOD, embedders=4)
    plain, packed = (
        quantized(folder, name, method=chosen, hessians=observed)
        for name, chosen in (("plain", METHOD), ("packed", method))
    )
    found, _ = read_quantized(packed)
    early = found.pop("time_mlp.3.weight")
    assert not isinstance(early, torch.Tensor)
    assert early.bits == 4
    expected, _ = read_quantized(plain)
    same = expand_all(found)["patch_proj.weight"], expand_all(expected)["patch_proj.weight"]
    assert torch.equal(*same)
    reports = [json.loads(file.with_suffix(".json").read_text()) for file in (plain, packed)]
    assert reports[1]["tensors"]["time_mlp.3.weight"]["granularity"] == "scaled"
    assert reports[1]["effective_bits"] < reports[0]["effective_bits"]
    refine(
        model=folder / "model.safetensors",
        unrefined=packed,
        data=folder / "data.safetensors",
        output=folder / "refined.safetensors",
        report=folder / "refined.json",
        curve=folder / "curve.jsonl",
        checkpoint=folder / "checkpoint.pt",
        dataset="digits",
        variant="v",
        settings=RefineConfig(steps=3, batch=4, assignments="trained"),
        device="cpu",
    )
    after, _ = read_quantized(folder / "refined.safetensors")
    assert not isinstance(after["time_mlp.3.weight"], torch.Tensor)


def test_embedders_of_a_foreign_file_are_not_known(tmp_path: Path) -> None:
    save_file({"a.weight": torch.randn(8, 8)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="only the weights' names"):
        quantized(tmp_path, "packed", method=replace(METHOD, embedders=4))
