"""Whether a classifier sees in each sample the class that was asked for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from flowquant.evaluation.classifier import classify, read_classifier
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import write_json
from flowquant.runtime.names import DeviceName
from flowquant.sampling.samples import read_samples


def scores(labels: Tensor, predicted: Tensor) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 averaged over classes by their number of samples.

    Args:
        labels: Classes asked for, int64 [N].
        predicted: Classes seen, int64 [N]. A class never seen has precision 0.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    precision, recall, f1, _ = precision_recall_fscore_support(
        labels.numpy(), predicted.numpy(), average="weighted", zero_division=0
    )
    return {
        "accuracy": float(accuracy_score(labels.numpy(), predicted.numpy())),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


@torch.inference_mode()
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
        UserError: if a file is unreadable.
    """
    images, labels, origin = read_samples(samples)
    network, config = read_classifier(classifier)
    where = choose_device(device)
    network = network.to(where)
    predicted = torch.cat(
        [classify(network, part.to(where)).argmax(1).cpu() for part in images.split(batch)]
    )
    write_json(
        output,
        {
            **asdict(origin),
            "n": len(images),
            "classifier": config.name,
            **scores(labels, predicted),
        },
    )
