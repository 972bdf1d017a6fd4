"""FID, KID, Inception Score, precision and recall of samples against the real test images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from torch_fidelity.metric_isc import isc_features_to_metric

from flowquant.config.evaluation import ExtractorName, MetricsConfig
from flowquant.evaluation.features import RealFeatures, extract, read_features
from flowquant.evaluation.metrics import (
    coverage,
    frechet_distance,
    kernel_distance,
    radii,
    statistics,
)
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import write_json
from flowquant.runtime.names import DeviceName
from flowquant.sampling.samples import read_samples


def measure(
    features: Tensor,
    logits: Tensor,
    real: RealFeatures,
    config: MetricsConfig,
    device: torch.device,
) -> dict[str, float]:
    """Compare features [N, F] and logits [N, classes] of samples with those of real images.

    Returns:
        ``fid``, ``kid_mean`` and ``kid_std`` (over subsets), ``is_mean`` and ``is_std`` (over
        splits), ``precision`` and ``recall`` (of manifolds, Kynkäänniemi et al. 2019).
    """
    score = isc_features_to_metric(logits, splits=config.is_splits)
    ours, theirs, radius = (
        tensor.to(device).double() for tensor in (features, real.features, real.radii)
    )
    size = min(config.kid_subset_size, len(ours), len(theirs))
    kid_mean, kid_std = kernel_distance(ours, theirs, config.kid_subsets, size)
    return {
        "fid": frechet_distance(features, statistics(real.features)),
        "kid_mean": kid_mean,
        "kid_std": kid_std,
        "is_mean": score["inception_score_mean"],
        "is_std": score["inception_score_std"],
        "precision": coverage(ours, theirs, radius),
        "recall": coverage(theirs, ours, radii(ours, real.neighbours)),
    }


def evaluate(
    samples: Path,
    real: Path,
    weights: Path,
    output: Path,
    extractor: ExtractorName,
    metrics: MetricsConfig,
    device: DeviceName = "auto",
) -> None:
    """Measure a samples file.

    Args:
        samples: Samples file.
        real: Features of the real test images, by the same extractor and weights.
        weights: The extractor's weights.
        output: JSON to write: whose samples, how many, which extractor, and the metrics.
        extractor: Which network.
        metrics: Settings of the metrics.
        device: Where to compute.

    Raises:
        UserError: if a file is unreadable, or the real features come from other weights.
    """
    images, _, origin = read_samples(samples)
    of_real, where = read_features(real, weights), choose_device(device)
    features, logits = extract(images, extractor, weights, where)
    write_json(
        output,
        {
            **asdict(origin),
            "n": len(images),
            "n_real": len(of_real.features),
            "extractor": extractor,
            "weights_sha256": of_real.digest,
            **measure(features, logits, of_real, metrics, where),
        },
    )
