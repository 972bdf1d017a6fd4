"""FID, KID, Inception Score, precision and recall of samples against the real test images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_part

from flowquant.artifacts import write_json
from flowquant.cli import run
from flowquant.device import DeviceName, choose_device
from flowquant.features import ExtractorName, extract, read_features
from flowquant.samples import read_samples


@dataclass(frozen=True)
class MetricsConfig:
    """Settings of the metrics (keys under ``evaluation``).

    ``kid_subset_size`` is cut to the number of images there are.
    """

    kid_subsets: int
    kid_subset_size: int
    is_splits: int
    neighbours: int


def measure(
    features: Tensor, logits: Tensor, real: Tensor, config: MetricsConfig
) -> dict[str, float]:
    """Compare features [N, F] and logits [N, classes] of samples with real features [M, F].

    Returns:
        ``fid``, ``kid_mean`` and ``kid_std`` (over subsets), ``is_mean`` and ``is_std`` (over
        splits), ``precision`` and ``recall`` (of manifolds, Kynkäänniemi et al. 2019).
    """
    features, real = features.double(), real.double()
    fid = fid_statistics_to_metric(
        fid_features_to_statistics(features), fid_features_to_statistics(real), verbose=False
    )
    kid = kid_features_to_metric(
        features,
        real,
        kid_subsets=config.kid_subsets,
        kid_subset_size=min(config.kid_subset_size, len(features), len(real)),
        verbose=False,
    )
    score = isc_features_to_metric(logits, splits=config.is_splits)
    precision, recall = calculate_precision_recall_part(features, real, config.neighbours)
    return {
        "fid": fid["frechet_inception_distance"],
        "kid_mean": kid["kernel_inception_distance_mean"],
        "kid_std": kid["kernel_inception_distance_std"],
        "is_mean": score["inception_score_mean"],
        "is_std": score["inception_score_std"],
        "precision": precision,
        "recall": recall,
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
        device: Where to compute features.

    Raises:
        UserError: if a file is unreadable, or the real features come from other weights.
    """
    images, _, origin = read_samples(samples)
    of_real, digest = read_features(real, weights)
    features, logits = extract(images, extractor, weights, choose_device(device))
    write_json(
        output,
        {
            **asdict(origin),
            "n": len(images),
            "n_real": len(of_real),
            "extractor": extractor,
            "weights_sha256": digest,
            **measure(features, logits, of_real, metrics),
        },
    )


if __name__ == "__main__":
    run(evaluate)
