"""All that is measured of one set of samples, which are read once."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowquant.config.evaluation import FidelityConfig, MetricsConfig
from flowquant.config.extractors import ExtractorName
from flowquant.evaluation.classifier import ClassifierFeatures, check_judges
from flowquant.evaluation.features import check_comparable, extract, features_by, read_features
from flowquant.evaluation.metrics import image_metrics
from flowquant.evaluation.scores import scores
from flowquant.evaluation.similarity import compare_paths, image_similarity
from flowquant.quantization.variant import load_variant
from flowquant.report.caveats import warn_of_few_images
from flowquant.runtime.device import choose_device
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import write_json
from flowquant.runtime.names import DeviceName
from flowquant.sampling.samples import Origin, read_samples

FIDELITY = FidelityConfig()
# Features [N, F] and logits [N, classes].
Seen = tuple[Tensor, Tensor | None]


def score(
    samples: Path,
    output: Path,
    extractors: tuple[ExtractorName, ...],
    real: tuple[Path, ...],
    weights: tuple[Path, ...],
    metrics: MetricsConfig,
    classifier: Path | None = None,
    model: Path | None = None,
    quantized: Path | None = None,
    model_samples: Path | None = None,
    fidelity: FidelityConfig = FIDELITY,
    device: DeviceName = "auto",
) -> None:
    """Score samples against real test images, by a classifier and against full precision.

    Args:
        samples: Samples file.
        output: JSON to write: whose samples, how many, and a section for each thing that is
            measured (`Scores`).
        extractors: Networks whose features of samples and of real images are compared.
        real: For each extractor, features of the real test images, by it and the same weights.
        weights: For each extractor, its weights.
        metrics: Settings of the metrics of features.
        classifier: Classifier file, to say whether it recognizes in each sample the class that was
            asked for.
        model: The full-precision model file, to say how near the quantized one stays to it.
        quantized: The quantized model file that the samples are of.
        model_samples: Samples of the full-precision model, of the same seed.
        fidelity: How many trajectories of the two models are compared, in how many steps.
        device: Where to compute.

    Raises:
        UserError: if real features come from other weights; the classifier is of other images or
            classes; the two models are not of one network, or their samples not of the same noise
            and labels; or options lack others.
    """
    if not len(extractors) == len(real) == len(weights):
        raise UserError(
            "--extractors, --real, --weights",
            found=f"{len(extractors)}, {len(real)} and {len(weights)} of them",
            expected="equally many",
            remedy="Name for each extractor its features of real images and its weights.",
        )
    compared = (model, quantized, model_samples)
    if any(compared) and not all(compared):
        raise UserError(
            "--model, --quantized, --model-samples",
            found=f"{sum(map(bool, compared))} of them",
            expected="all three, or none",
            remedy="Name all to compare the samples with those of full precision.",
        )
    images, labels, origin = read_samples(samples)
    target, seed = choose_device(device), origin.seed
    report: dict[str, Any] = {**asdict(origin), "n": len(images)}
    judged = None
    if classifier is not None:
        judged, report["downstream"] = _downstream(images, labels, classifier, target)
    report["evaluation"] = {}
    for name, theirs, own in zip(extractors, real, weights, strict=True):
        # Where the classifier's features are compared, too, it looks once.
        seen = judged if own == classifier else None
        found = _evaluation(images, seen, name, theirs, own, metrics, seed, target)
        report["evaluation"][name] = found
    if model and quantized and model_samples:
        reference = _paired(images, labels, origin, samples, model_samples)
        report["fidelity"] = {
            **image_similarity(reference, images),
            "trajectories": fidelity.samples,
            **_paths(model, quantized, fidelity, seed, target),
        }
    write_json(output, report)


def _downstream(
    images: Tensor, labels: Tensor, classifier: Path, device: torch.device
) -> tuple[Seen, dict[str, Any]]:
    """What a classifier sees in images, and how often it recognizes what was asked for."""
    network = ClassifierFeatures(classifier).to(device)
    check_judges(classifier, network.config, images, labels)
    features, logits = features_by(network, images, classifier, device)
    assert logits is not None
    recognized = {"classifier": network.config.name, **scores(labels, logits.argmax(1))}
    return (features, logits), recognized


def _evaluation(
    images: Tensor,
    seen: Seen | None,
    extractor: ExtractorName,
    real: Path,
    weights: Path,
    metrics: MetricsConfig,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """Images against real ones, by an extractor, unless what it sees is ``seen`` already."""
    of_real = read_features(real, extractor, weights)
    features, logits = seen or extract(images, extractor, weights, device)
    check_comparable(real, of_real, features)
    warn_of_few_images(len(images), len(of_real.features), features.shape[1])
    return {
        "n_real": len(of_real.features),
        "features": features.shape[1],
        "weights_sha256": of_real.digest,
        **image_metrics(features, logits, of_real, metrics, seed, device),
    }


def _paired(
    images: Tensor, labels: Tensor, origin: Origin, samples: Path, model_samples: Path
) -> Tensor:
    """Full precision's images, uint8 [N, C, H, W], of the same noise and labels as these."""
    reference, its_labels, its_origin = read_samples(model_samples)
    same = labels.equal(its_labels) and images.shape == reference.shape
    if origin.seed != its_origin.seed or not same:
        raise UserError(
            samples,
            found=f"seed {origin.seed} and images {list(images.shape)}",
            expected=f"the seed {its_origin.seed}, images {list(reference.shape)} and labels of "
            f"{model_samples}",
            remedy="Sample both with the same seed and number of samples.",
        )
    return reference


def _paths(
    model: Path, quantized: Path, settings: FidelityConfig, seed: int, device: torch.device
) -> dict[str, Any]:
    """What `compare_paths` says of two model files."""
    (full, config), (other, its_config) = load_variant(model), load_variant(quantized)
    if its_config != config:
        raise UserError(
            quantized,
            found="another network than the full-precision one",
            expected=f"what {model} was quantized to",
            remedy="Name the files of the same dataset and run.",
        )
    return compare_paths(full.to(device), other.to(device), config, settings, seed, device)
