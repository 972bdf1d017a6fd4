"""Whether a classifier recognizes in each sample the class that was requested."""

from dataclasses import asdict
from pathlib import Path

from flowquant.evaluation.classifier import CLASSIFIER, check_judges
from flowquant.evaluation.features import check_made_by, read_sampled
from flowquant.evaluation.scores import scores
from flowquant.runtime.files import sha256, write_json
from flowquant.runtime.header import read_header


def downstream(features: Path, classifier: Path, output: Path) -> None:
    """Compare the likeliest classes of samples with the requested ones.

    Args:
        features: What the classifier made of samples with classes.
        classifier: Classifier file.
        output: JSON to write: whose samples, how many, and the scores.

    Raises:
        UserError: if the features are of another network, or the classifier of other classes.
    """
    sampled = read_sampled(features)
    check_made_by(features, sampled.made, "classifier", sha256(classifier))
    config = read_header(classifier, CLASSIFIER).described.architecture
    check_judges(classifier, config, sampled.labels)
    assert sampled.logits is not None
    report = {
        **asdict(sampled.made.origin),
        "n": len(sampled.labels),
        "classifier": config.name,
        **scores(sampled.labels, sampled.logits.argmax(1)),
    }
    write_json(output, report)
