"""Metrics against closed forms, and the classifier as a feature extractor."""

import json

import pytest
import torch

from flowquant.config.classifier import ArchitectureConfig
from flowquant.config.evaluation import MetricsConfig
from flowquant.config.model import ImageConfig
from flowquant.evaluation.classifier import build_classifier, penultimate, write_classifier
from flowquant.evaluation.features import RealFeatures, extract
from flowquant.evaluation.metrics import coverage, kernel_distance, radii
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import write_tensors
from flowquant.sampling.samples import Origin, write_samples
from flowquant.stages.evaluate import evaluate
from flowquant.stages.evaluate import measure as measure_against
from flowquant.stages.real_features import real_features

METRICS = MetricsConfig(kid_subsets=5, kid_subset_size=1000, is_splits=2)
CPU = torch.device("cpu")


def measure(features, logits, real, config):
    return measure_against(
        features, logits, RealFeatures(real, radii(real.double(), 3), 3, ""), config, CPU
    )


def gaussian(n, mean, std, seed):
    draws = torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed))
    return draws * torch.tensor(std) + torch.tensor(mean)


def test_fid_of_gaussians():
    """FID = |μ₁ − μ₂|² + Σ (σ₁ − σ₂)² for independent coordinates."""
    a = gaussian(40_000, [0.0, 0.0], [1.0, 2.0], 0)
    b = gaussian(40_000, [3.0, 0.0], [1.0, 4.0], 1)
    found = measure(a[:4000], torch.zeros(4000, 3), b[:4000], METRICS)
    assert found["fid"] == pytest.approx(9 + 4, rel=0.05)
    assert found["precision"] < 1


def test_identical_features_are_perfect():
    a = gaussian(300, [0.0, 1.0], [1.0, 1.0], 0)
    found = measure(a, torch.zeros(300, 3), a, METRICS)
    assert found["fid"] == pytest.approx(0, abs=1e-6)
    assert found["precision"] == found["recall"] == 1
    assert found["is_mean"] == pytest.approx(1)


def test_inception_score_of_sure_and_even_classes():
    """Sure of each of three equally frequent classes: the score is three."""
    logits = torch.eye(3).repeat(100, 1) * 50
    found = measure(
        gaussian(300, [0.0] * 2, [1.0] * 2, 0),
        logits,
        gaussian(300, [0.0] * 2, [1.0] * 2, 1),
        METRICS,
    )
    assert found["is_mean"] == pytest.approx(3, rel=0.01)


def test_kid_is_unbiased_and_subsets_fit():
    a, b = gaussian(250, [0.0] * 4, [1.0] * 4, 0), gaussian(90, [0.0] * 4, [1.0] * 4, 1)
    near = measure(a, torch.zeros(250, 3), b, METRICS)["kid_mean"]
    far = measure(a + 2, torch.zeros(250, 3), b, METRICS)["kid_mean"]
    assert abs(near) < 0.5 < far


def test_as_torch_fidelity():
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import calculate_precision_recall_part

    a = gaussian(300, [0.0] * 30, [1.0] * 30, 0).double()
    b = gaussian(500, [0.3] * 30, [1.1] * 30, 1).double()
    for size in (100, 300):
        wanted = kid_features_to_metric(a, b, kid_subsets=7, kid_subset_size=size, verbose=False)
        assert kernel_distance(a, b, 7, size) == pytest.approx(tuple(wanted.values()), rel=1e-9)
    found = coverage(a, b, radii(b, 3)), coverage(b, a, radii(a, 3))
    assert found == pytest.approx(calculate_precision_recall_part(a, b, 3), abs=1e-7)
    assert 0 < found[0] < 1


@pytest.fixture
def classifier(tmp_path):
    config = ArchitectureConfig("resnet18", ImageConfig(1, 8), classes=3)
    torch.manual_seed(0)
    write_classifier(tmp_path / "classifier.safetensors", build_classifier(config).eval(), config)
    return tmp_path / "classifier.safetensors"


def test_extractor_gives_the_classifiers_own_features(classifier):
    from flowquant.evaluation.classifier import read_classifier

    images = torch.randint(0, 256, (7, 1, 8, 8), dtype=torch.uint8)
    features, logits = extract(images, "classifier", classifier, CPU, batch=3)
    network, _ = read_classifier(classifier)
    by_hand = penultimate(network, images)
    assert features.shape == (7, 512)
    torch.testing.assert_close(features, by_hand[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(logits, by_hand[1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(network.fc(features), logits, atol=1e-4, rtol=1e-4)


def test_stage(tmp_path, classifier):
    from flowquant.config.model import ConditionConfig
    from flowquant.data.dataset import Split, write_dataset

    images = torch.randint(0, 256, (30, 1, 8, 8), dtype=torch.uint8)
    split = Split(images, torch.arange(30) % 3)
    train = Split(images.clone(), split.labels.clone())
    data = tmp_path / "data.safetensors"
    write_dataset(data, train, split, ImageConfig(1, 8), ConditionConfig("class", 3), {})
    real_features(data, classifier, tmp_path / "real.safetensors", "classifier", 3, device="cpu")
    write_samples(tmp_path / "s.safetensors", images, split.labels, Origin("squares", "full", 4))
    arguments = (tmp_path / "s.safetensors", tmp_path / "real.safetensors", classifier)
    evaluate(*arguments, tmp_path / "out.json", "classifier", METRICS, device="cpu")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["fid"] == pytest.approx(0, abs=1e-3)
    assert (found["dataset"], found["variant"], found["seed"]) == ("squares", "full", 4)
    assert (found["n"], found["n_real"], found["extractor"]) == (30, 30, "classifier")

    write_tensors(tmp_path / "real.safetensors", {"features": images}, {"weights_sha256": "other"})
    with pytest.raises(UserError, match="found features by weights other"):
        evaluate(*arguments, tmp_path / "no.json", "classifier", METRICS)
    assert not (tmp_path / "no.json").exists()


def test_inception_weights_that_would_execute_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"a": Evil()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="found no plain weights"):
        extract(
            torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
            "inception-v3-compat",
            tmp_path / "weights.pth",
            CPU,
        )


def test_inception_with_weights_of_the_right_shape(tmp_path):
    """The published extractor's path, on random weights: the real ones cannot be had in a test."""
    from unittest.mock import patch

    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    blank = (
        "torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3.load_state_dict"
    )
    empty = tmp_path / "empty.pth"
    torch.save({}, empty)
    with patch(blank):
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(empty))
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    features, logits = extract(images, "inception-v3-compat", tmp_path / "weights.pth", CPU)
    assert features.shape == (3, 2048)
    assert logits.shape == (3, 1008)
