"""Samples files, scored against features of real images."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.evaluation import MetricsConfig
from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.data.dataset import Split, write_dataset
from flowquant.evaluation.classifier import build_classifier, write_classifier
from flowquant.report.caveats import MEANINGS
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import write_tensors
from flowquant.sampling.samples import Origin, write_samples
from flowquant.stages.real_features import real_features
from flowquant.stages.score import score
from tiny import write_tiny_dataset

METRICS = MetricsConfig(kid_subsets=5, kid_subset_size=1000, is_splits=2, resamples=3)


def test_samples_equal_to_real_images_are_perfect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = ImageConfig(channels=1, size=8)
    architecture = ArchitectureConfig(name="resnet18", image=image, classes=3)
    torch.manual_seed(0)
    classifier = tmp_path / "classifier.safetensors"
    write_classifier(classifier, build_classifier(architecture).eval(), architecture)
    images = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8)
    split = Split(images, torch.arange(30) % 3)
    train = Split(images.clone(), split.labels.clone())
    data = tmp_path / "data.safetensors"
    write_dataset(data, train, split, image, ConditionConfig(kind="class", count=3), {})
    real_features(
        data=data,
        weights=classifier,
        output=tmp_path / "real.safetensors",
        extractor="classifier",
        neighbours=3,
        device="cpu",
    )
    write_samples(tmp_path / "s.safetensors", images, split.labels, Origin("squares", "full", 4))
    given: dict[str, Any] = {
        "samples": tmp_path / "s.safetensors",
        "real": (tmp_path / "real.safetensors",),
        "weights": (classifier,),
        "extractors": ("classifier",),
        "metrics": METRICS,
        "device": "cpu",
    }
    score(**given, output=tmp_path / "out.json")
    scores = json.loads((tmp_path / "out.json").read_text())
    assert (scores["dataset"], scores["variant"], scores["seed"]) == ("squares", "full", 4)
    assert scores["n"] == 30
    assert "downstream" not in scores
    assert "fidelity" not in scores
    [(extractor, found)] = scores["evaluation"].items()
    assert found["fid"] == pytest.approx(0, abs=1e-3)
    assert (found["n_real"], extractor) == (30, "classifier")
    assert found["features"] == 512
    assert len(found["fid_resampled"]) == METRICS.resamples
    assert list(found["fid_at"]) == ["15", "19", "22", "26", "30"]
    assert found["fid_infinity"] is None  # of fewer samples than features
    assert found["sliced_w2"] == pytest.approx(0, abs=1e-6)
    told = f"warning: 30 samples, 30 real images, 512 features: {MEANINGS['few_images']}\n"
    assert told in capsys.readouterr().err

    metadata = {"extractor": "classifier", "weights_sha256": "other", "neighbours": 3}
    of_others = {"features": torch.zeros(30, 7), "radii": torch.zeros(30).double()}
    write_tensors(tmp_path / "real.safetensors", of_others, metadata)
    with pytest.raises(UserError, match="found features by classifier with weights other"):
        score(**given, output=tmp_path / "no.json")
    metadata["weights_sha256"] = found["weights_sha256"]
    write_tensors(tmp_path / "real.safetensors", of_others, metadata)
    with pytest.raises(UserError, match="found features of 7 numbers; expected features of 512"):
        score(**given, output=tmp_path / "no.json")
    for lacking, message in (
        ({"weights": ()}, "1, 1 and 0 of them; expected equally many"),
        ({"model": classifier}, "1 of them; expected all three, or none"),
    ):
        with pytest.raises(UserError, match=message):
            score(**given | lacking, output=tmp_path / "no.json")
    assert not (tmp_path / "no.json").exists()


def test_too_few_test_images_for_their_neighbours(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="found 64 test images; expected more than 64"):
        real_features(
            data=write_tiny_dataset(tmp_path),
            weights=tmp_path / "never read",
            output=tmp_path / "out.safetensors",
            extractor="classifier",
            neighbours=64,
        )
