"""A classifier trained, and what it says of samples."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from flowquant.config.classifier import ClassifierConfig
from flowquant.config.evaluation import MetricsConfig
from flowquant.data.dataset import read_dataset
from flowquant.evaluation import classifier as classifiers
from flowquant.evaluation.classifier import predict, read_classifier
from flowquant.sampling.samples import Origin, write_samples
from flowquant.stages.classifier import classifier
from flowquant.stages.real_features import real_features
from flowquant.stages.score import score
from tiny import TINY_MODEL, write_tiny_dataset


def test_trained_and_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, file, report = (
        write_tiny_dataset(tmp_path),
        tmp_path / "c.safetensors",
        tmp_path / "c.json",
    )
    settings = ClassifierConfig(
        architecture="shufflenet_v2_x0_5",
        epochs=1,
        batch=32,
        learning_rate=1e-3,
        weight_decay=0.0,
        shift=1,
        flip=False,
    )
    classifier(
        data=data,
        output=file,
        report=report,
        image=TINY_MODEL.image,
        condition=TINY_MODEL.condition,
        settings=settings,
        dataset="tiny",
        reference=0.99,
        device="cpu",
    )
    # Its images are noise.
    assert "of test images, where 99.0% is known: the classifier is" in capsys.readouterr().err
    _, test = read_dataset(data)
    network, config = read_classifier(file)
    hits = (predict(network, test.images, torch.device("cpu")) == test.labels).double().mean()
    trained = json.loads(report.read_text())
    assert trained["test_accuracy"] == hits.item()
    assert (config.name, config.classes, trained["test_images"]) == ("shufflenet_v2_x0_5", 3, 64)

    samples = tmp_path / "samples.safetensors"
    write_samples(samples, test.images, test.labels, Origin("tiny", "full", 3))
    given: dict[str, Any] = {
        "samples": samples,
        "metrics": MetricsConfig(kid_subsets=1, kid_subset_size=8, is_splits=1, resamples=0),
        "classifier": file,
        "device": "cpu",
    }
    alone, both = tmp_path / "alone.json", tmp_path / "both.json"
    score(**given, output=alone, extractors=(), real=(), weights=())
    found = json.loads(alone.read_text())
    assert (found["n"], found["seed"], found["evaluation"]) == (64, 3, {})
    assert found["downstream"]["accuracy"] == hits.item()
    assert found["downstream"]["classifier"] == "shufflenet_v2_x0_5"
    assert "fidelity" not in found

    real = tmp_path / "real.safetensors"
    real_features(data, file, real, "classifier", neighbours=3, device="cpu")
    looked: list[int] = []
    penultimate = classifiers.penultimate

    def counted(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        looked.append(len(images))
        return penultimate(network, images)

    monkeypatch.setattr(classifiers, "penultimate", counted)
    score(**given, output=both, extractors=("classifier",), real=(real,), weights=(file,))
    assert looked == [64]  # once, for features and logits
    again = json.loads(both.read_text())
    assert again["downstream"] == found["downstream"]
    assert again["evaluation"]["classifier"]["fid"] == pytest.approx(0, abs=1e-3)
