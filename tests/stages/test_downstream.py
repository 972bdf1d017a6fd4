"""A classifier trained, and what it says of samples."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flowquant.config.classifier import ClassifierConfig
from flowquant.config.extractors import ExtractorName
from flowquant.data.dataset import read_dataset
from flowquant.evaluation.classifier import predict, read_classifier
from flowquant.evaluation.features import (
    SampledFeatures,
    SampledMetadata,
    read_sampled,
    write_sampled,
)
from flowquant.runtime.errors import UserError
from flowquant.sampling.samples import Origin, write_samples
from flowquant.stages.classifier import classifier
from flowquant.stages.downstream import downstream
from flowquant.stages.features import features
from tiny import TINY_MODEL, write_tiny_dataset

ORIGIN = Origin("tiny", "full", 3)


def test_both_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    write_samples(samples, test.images, test.labels, ORIGIN)
    seen = tmp_path / "features.safetensors"
    features(samples=samples, weights=file, output=seen, extractor="classifier", device="cpu")
    downstream(features=seen, classifier=file, output=tmp_path / "d.json")
    found = json.loads((tmp_path / "d.json").read_text())
    assert found["accuracy"] == hits.item()
    assert (found["n"], found["seed"], found["classifier"]) == (64, 3, "shufflenet_v2_x0_5")

    content, made = read_sampled(seen), SampledMetadata("classifier", "0" * 64, ORIGIN)
    write_sampled(seen, replace(content, made=made))
    with pytest.raises(UserError, match=r"features\.safetensors: found .* with weights 0{64}"):
        downstream(features=seen, classifier=file, output=tmp_path / "no.json")
    assert not (tmp_path / "no.json").exists()


@pytest.mark.parametrize(
    ("extractor", "logits"), [("classifier", None), ("clip-vit-b-32", torch.zeros(6, 3))]
)
def test_logits_are_of_those_that_classify(
    extractor: ExtractorName, logits: Tensor | None, tmp_path: Path
) -> None:
    made = SampledMetadata(extractor, "0" * 64, ORIGIN)
    path = tmp_path / "features.safetensors"
    labels = torch.arange(6) % 3
    write_sampled(path, SampledFeatures(torch.zeros(6, 4), logits, labels, made))
    with pytest.raises(UserError, match=rf"found features.* by {extractor}; expected a file of"):
        read_sampled(path)
