"""FID, KID and other metrics of samples against the real test images."""

from dataclasses import asdict
from pathlib import Path

from flowquant.config.evaluation import MetricsConfig
from flowquant.config.extractors import ExtractorName
from flowquant.evaluation.features import check_comparable, extract, read_features
from flowquant.evaluation.metrics import image_metrics
from flowquant.report.caveats import warn_of_few_images
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import write_json
from flowquant.runtime.names import DeviceName
from flowquant.sampling.samples import read_samples


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
        output: JSON to write: whose samples, how many, which extractor with how many features,
            and the metrics (`Evaluation`).
        extractor: Which network.
        metrics: Settings of the metrics.
        device: Where to compute.

    Raises:
        UserError: if the real features come from other weights.
    """
    images, _, origin = read_samples(samples)
    of_real, target = read_features(real, extractor, weights), choose_device(device)
    features, logits = extract(images, extractor, weights, target)
    check_comparable(real, of_real, features)
    size = features.shape[1]
    warn_of_few_images(len(images), len(of_real.features), size)
    report = {
        **asdict(origin),
        "n": len(images),
        "n_real": len(of_real.features),
        "extractor": extractor,
        "features": size,
        "weights_sha256": of_real.digest,
        **image_metrics(features, logits, of_real, metrics, origin.seed, target),
    }
    write_json(output, report)
