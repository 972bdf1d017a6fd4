"""Whether a classifier recognizes in each sample the class that was requested."""

from dataclasses import asdict
from pathlib import Path

from flowquant.evaluation.classifier import check_judges, predict, read_classifier
from flowquant.evaluation.scores import scores
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import write_json
from flowquant.runtime.names import DeviceName
from flowquant.sampling.samples import read_samples


def downstream(
    samples: Path, classifier: Path, output: Path, batch: int = 512, device: DeviceName = "auto"
) -> None:
    """Classify samples at the very size and scaling of the classifier's training images.

    Args:
        samples: Samples file with classes.
        classifier: Classifier file.
        output: JSON to write: whose samples, how many, and the scores.
        batch: Images at a time.
        device: Where to compute.

    Raises:
        UserError: if the classifier is of other images or classes.
    """
    images, labels, origin = read_samples(samples)
    network, config = read_classifier(classifier)
    check_judges(classifier, config, images, labels)
    target = choose_device(device)
    predicted = predict(network.to(target), images, target, batch)
    report = {
        **asdict(origin),
        "n": len(images),
        "classifier": config.name,
        **scores(labels, predicted),
    }
    write_json(output, report)
