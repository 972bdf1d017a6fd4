"""What measures nothing but NaN or infinity leaves no result, whichever stage it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.evaluation import FidelityConfig, MetricsConfig
from flowquant.config.method import MethodConfig, SensitivityConfig
from flowquant.config.refinement import RefineConfig
from flowquant.config.sampling import SweepConfig
from flowquant.evaluation.classifier import build_classifier, write_classifier
from flowquant.evaluation.frechet import Reference
from flowquant.runtime.errors import UserError
from flowquant.sampling.samples import Origin, write_samples
from flowquant.stages import distances, refine, score, sensitivity, sweep
from flowquant.stages.quantize import quantize
from flowquant.stages.real_features import real_features
from flowquant.training.refinement import Refinement
from tiny import TINY_MODEL, write_tiny_dataset, write_tiny_model

METHOD = MethodConfig(
    levels="uniform", granularity="row", scope="matrices", keep=(), least_values=5
)
CLASSIFIER = ArchitectureConfig(name="shufflenet_v2_x0_5", image=TINY_MODEL.image, classes=3)
SAID: dict[str, Any] = {"dataset": "tiny", "variant": "m/2bit"}
CPU: dict[str, Any] = {"device": "cpu"}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, Path]:
    """What the stages after training and quantizing read."""
    paths = {"model": write_tiny_model(tmp_path), "data": write_tiny_dataset(tmp_path)}
    for name in ("quantized", "classifier", "samples", "real"):
        paths[name] = tmp_path / f"{name}.safetensors"
    quantize(
        model=paths["model"],
        output=paths["quantized"],
        report=tmp_path / "quantized.json",
        method=METHOD,
        bits=2,
        **SAID,
    )
    torch.manual_seed(0)
    write_classifier(paths["classifier"], build_classifier(CLASSIFIER).eval(), CLASSIFIER)
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (12, 1, 8, 8), generator=draws).to(torch.uint8)
    write_samples(paths["samples"], images, torch.arange(12) % 3, Origin("tiny", "m/2bit", 0))
    real_features(
        data=paths["data"],
        weights=paths["classifier"],
        output=paths["real"],
        extractor="classifier",
        neighbours=1,
        **CPU,
    )
    return paths


def measured(stage: str, inputs: dict[str, Path], output: Path) -> Callable[[], None]:
    """A call of the stage, on the inputs."""
    pair: dict[str, Any] = {
        "model": inputs["model"],
        "quantized": inputs["quantized"],
        "output": output,
    }
    return {
        "score": lambda: score.score(
            samples=inputs["samples"],
            extractors=("classifier",),
            real=(inputs["real"],),
            weights=(inputs["classifier"],),
            metrics=MetricsConfig(kid_subsets=1, kid_subset_size=10, is_splits=1, resamples=1),
            classifier=inputs["classifier"],
            model_samples=inputs["samples"],
            fidelity=FidelityConfig(samples=2, steps=2),
            **pair,
            **CPU,
        ),
        "distances": lambda: distances.distances(**pair, **SAID),
        "sensitivity": lambda: sensitivity.sensitivity(
            model=inputs["model"],
            data=inputs["data"],
            output=output,
            dataset="tiny",
            method=METHOD,
            trials=SensitivityConfig(widths=(2,), images=4),
            **CPU,
        ),
        "refine": lambda: refine.refine(
            model=inputs["model"],
            unrefined=inputs["quantized"],
            data=inputs["data"],
            output=output.with_suffix(".safetensors"),
            report=output,
            curve=output.with_suffix(".jsonl"),
            checkpoint=output.with_suffix(".pt"),
            settings=RefineConfig(steps=1, batch=2),
            **SAID,
            **CPU,
        ),
        "sweep": lambda: sweep.sweep(
            model=inputs["model"],
            seed=0,
            settings=SweepConfig(
                solvers=("euler",),
                evaluations=(2,),
                per_class=4,
                condition="zeros",
                guidance=1.0,
                precision="float32",
            ),
            real=inputs["real"],
            weights=inputs["classifier"],
            extractor="classifier",
            output=output,
            **SAID,
            **CPU,
        ),
    }[stage]


def no_number(*_: object, **__: object) -> float:
    return math.nan


def no_numbers(*_: object, **__: object) -> dict[str, Any]:
    return {"some": [1.0, math.inf]}


@pytest.mark.parametrize(
    ("stage", "owner", "name", "instead", "key"),
    [
        ("score", score, "image_metrics", no_numbers, "evaluation.classifier.some.1"),
        ("score", score, "scores", no_numbers, "downstream.some.1"),
        ("score", score, "compare_paths", no_numbers, "fidelity.some.1"),
        ("distances", distances, "errors", no_numbers, r"tensors\..*\.some.1"),
        ("sensitivity", sensitivity, "mean_squared_error", no_number, r"tensors\..*squared_error"),
        ("refine", Refinement, "velocity_error", no_number, "velocity_error.before"),
        ("sweep", Reference, "distance", no_number, "rows.0.fid"),
    ],
)
def test_no_stage_writes_what_is_no_number(
    stage: str,
    owner: object,
    name: str,
    instead: Callable[..., object],
    key: str,
    inputs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "measured.json"
    call = measured(stage, inputs, output)
    call()
    output.unlink()
    monkeypatch.setattr(owner, name, instead)
    with pytest.raises(UserError, match=rf"found (nan|inf) for `{key}`; expected a finite number"):
        call()
    assert not output.exists()


def test_features_that_are_no_numbers_are_not_compared(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    """Foreign weights, whole and well-formed: FID's linear algebra would end in a traceback."""
    network = build_classifier(CLASSIFIER).eval()
    network.get_parameter("conv5.1.bias").data.fill_(10)
    network.get_parameter("fc.weight").data.fill_(1e38)
    write_classifier(tmp_path / "huge.safetensors", network, CLASSIFIER)
    with pytest.raises(UserError, match=r"huge.safetensors: found NaN or infinite features"):
        real_features(
            data=inputs["data"],
            weights=tmp_path / "huge.safetensors",
            output=tmp_path / "out.safetensors",
            extractor="classifier",
            neighbours=1,
            **CPU,
        )
    assert not (tmp_path / "out.safetensors").exists()


def test_a_classifier_that_diverged_at_its_last_step_is_not_kept(tmp_path: Path) -> None:
    network = build_classifier(CLASSIFIER)
    network.get_parameter("fc.bias").data[0] = math.nan
    with pytest.raises(UserError, match=r"out.safetensors: found NaN or infinite values in fc"):
        write_classifier(tmp_path / "out.safetensors", network, CLASSIFIER)
    assert not (tmp_path / "out.safetensors").exists()
