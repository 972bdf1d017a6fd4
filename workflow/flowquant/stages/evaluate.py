"""FID, KID and other metrics of samples against the real test images."""

from dataclasses import asdict
from pathlib import Path

from flowquant.config.evaluation import MetricsConfig
from flowquant.evaluation.features import check_comparable, read_features, read_sampled
from flowquant.evaluation.metrics import image_metrics
from flowquant.report.caveats import warn_of_few_images
from flowquant.runtime.files import write_json


def evaluate(features: Path, real: Path, output: Path, metrics: MetricsConfig) -> None:
    """Measure samples by their features, on the CPU.

    Args:
        features: Features of the samples.
        real: Features of the real test images, by the same extractor and weights.
        output: JSON to write: whose samples, how many, which extractor with how many features,
            and the metrics (`Evaluation`).
        metrics: Settings of the metrics.

    Raises:
        UserError: if the real features come from another extractor or other weights.
    """
    sampled = read_sampled(features)
    made, size = sampled.made, sampled.features.shape[1]
    of_real = read_features(real, made.extractor, made.weights_sha256)
    check_comparable(real, of_real, sampled.features)
    n, n_real = len(sampled.features), len(of_real.features)
    warn_of_few_images(n, n_real, size)
    report = {
        **asdict(made.origin),
        "n": n,
        "n_real": n_real,
        "extractor": made.extractor,
        "features": size,
        "weights_sha256": made.weights_sha256,
        **image_metrics(sampled.features, sampled.logits, of_real, metrics, made.origin.seed),
    }
    write_json(output, report)
