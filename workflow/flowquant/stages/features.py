"""Features of samples by one network, which all that is scored by it reads."""

from pathlib import Path

from flowquant.config.extractors import ExtractorName
from flowquant.evaluation.classifier import CLASSIFIER, check_judges
from flowquant.evaluation.extract import extract
from flowquant.evaluation.features import SampledFeatures, SampledMetadata, write_sampled
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import sha256
from flowquant.runtime.header import read_header
from flowquant.runtime.names import DeviceName
from flowquant.sampling.samples import read_samples


def features(
    samples: Path,
    weights: Path,
    output: Path,
    extractor: ExtractorName,
    device: DeviceName = "auto",
) -> None:
    """Write what a network makes of samples: features, and logits if it classifies.

    Args:
        samples: Samples file.
        weights: The extractor's weights.
        output: Features file to write, which says whose samples these are, too.
        extractor: Which network.
        device: Where to compute.

    Raises:
        UserError: if the weights cannot be read, or are a classifier's of other images or classes.
    """
    images, labels, origin = read_samples(samples)
    if extractor == "classifier":
        check_judges(weights, read_header(weights, CLASSIFIER).described.architecture, labels)
    found, logits = extract(images, extractor, weights, choose_device(device))
    made = SampledMetadata(extractor, sha256(weights), origin)
    write_sampled(output, SampledFeatures(found, logits, labels, made))
