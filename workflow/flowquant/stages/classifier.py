"""Train the classifier that judges samples, and measure it on real test images."""

from pathlib import Path

import torch

from flowquant.config.classifier import ArchitectureConfig, ClassifierConfig
from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.data.dataset import check_fits, read_dataset
from flowquant.evaluation.classifier import build_classifier, predict, write_classifier
from flowquant.evaluation.classifier_training import fit
from flowquant.evaluation.scores import accuracy
from flowquant.report.caveats import WEAK_CLASSIFIER, warn, weak_classifier
from flowquant.runtime import random
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import write_json
from flowquant.runtime.names import DeviceName


def classifier(
    data: Path,
    output: Path,
    report: Path,
    image: ImageConfig,
    condition: ConditionConfig,
    settings: ClassifierConfig,
    dataset: str,
    seed: int = 0,
    reference: float = 1.0,
    device: DeviceName = "auto",
) -> None:
    """Train a classifier on a dataset's training split.

    Args:
        data: Dataset file.
        output: Classifier file to write.
        report: JSON to write: accuracy on real training and test images, number of parameters.
        image: What the images are.
        condition: What the labels are.
        settings: Architecture and training.
        dataset: Name to write into the report.
        seed: Of initial weights, order and augmentation.
        reference: The accuracy 0…1 that the dataset allows, for a warning in the log.
        device: Where to compute.

    Raises:
        UserError: if the data do not fit the preset or the architecture is unknown.
    """
    train, test = read_dataset(data)
    for split in (train, test):
        check_fits(data, split, image, condition)
    target = choose_device(device)
    architecture = ArchitectureConfig(
        name=settings.architecture, image=image, classes=condition.count
    )
    torch.manual_seed(random.key(seed, "classifier weights"))
    network = build_classifier(architecture).to(target)
    fit(network, train, settings, seed, target)
    write_classifier(output, network, architecture)
    reached = accuracy(test.labels, predict(network, test.images, target))
    if weak_classifier(reached, reference):
        warn(
            f"right on {reached:.1%} of test images, where {reference:.1%} is known",
            WEAK_CLASSIFIER,
        )
    description = {
        "dataset": dataset,
        "architecture": settings.architecture,
        "test_accuracy": reached,
        "train_accuracy": accuracy(train.labels, predict(network, train.images, target)),
        "test_images": len(test),
        "parameters": sum(p.numel() for p in network.parameters()),
        "seed": seed,
    }
    write_json(report, description)
