"""Train the classifier that judges samples, and measure it on real test images."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from flowquant.config.classifier import ArchitectureConfig, ClassifierConfig
from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.data.dataset import Split, check_fits, place, read_dataset
from flowquant.evaluation.classifier import build_classifier, classify, write_classifier
from flowquant.runtime import random
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import write_json
from flowquant.runtime.names import DeviceName


def augment(images: Tensor, shift: int, flip: bool, draws: torch.Generator) -> Tensor:
    """Move each image by up to ``shift`` pixels, filling with its edge, and maybe mirror it.

    Args:
        images: uint8 [B, C, H, W].
        shift: Largest displacement along each axis, in pixels.
        flip: Whether to mirror half of the images left to right.
        draws: Generator of the displacements, on the images' device.
    """
    count, _, height, width = images.shape
    where = images.device
    if flip:
        mirrored = torch.rand(count, 1, 1, 1, generator=draws, device=where) < 0.5
        images = torch.where(mirrored, images.flip(3), images)
    moves = torch.randint(-shift, shift + 1, (2, count, 1), generator=draws, device=where)
    rows = (torch.arange(height, device=where) + moves[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=where) + moves[1]).clamp(0, width - 1)
    index = torch.arange(count, device=where)[:, None, None]
    return images[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def fit(
    network: nn.Module, split: Split, config: ClassifierConfig, seed: int, device: torch.device
) -> None:
    """Train in place: cross-entropy, AdamW, one-cycle learning rate, whole batches only."""
    split = place(split, device)
    images, labels = split.images, split.labels
    steps = len(images) // config.batch
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.epochs * steps
    )
    network.train()
    with tqdm(total=config.epochs * steps, desc="classifier", unit="step", mininterval=1) as bar:
        for epoch in range(config.epochs):
            draws = random.generator(seed, "classifier epoch", epoch, device)
            order = torch.randperm(len(images), generator=draws, device=device)
            torch.manual_seed(random.key(seed, "classifier dropout", epoch))
            for chosen in order[: steps * config.batch].view(steps, config.batch):
                rows = chosen.to(images.device)
                batch = augment(images[rows].to(device), config.shift, config.flip, draws)
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    loss = F.cross_entropy(classify(network, batch), labels[rows].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()


@torch.inference_mode()
def accuracy(network: nn.Module, split: Split, device: torch.device) -> float:
    """Share of images classified as labelled."""
    network.eval()
    hits = 0
    for images, labels in zip(split.images.split(512), split.labels.split(512), strict=True):
        hits += int((classify(network, images.to(device)).argmax(1).cpu() == labels).sum())
    return hits / len(split)


def classifier(
    data: Path,
    output: Path,
    report: Path,
    image: ImageConfig,
    condition: ConditionConfig,
    classifier: ClassifierConfig,
    dataset: str,
    seed: int = 0,
    device: DeviceName = "auto",
) -> None:
    """Train a classifier on a dataset's training split.

    Args:
        data: Dataset file.
        output: Classifier file to write.
        report: JSON to write: accuracy on real training and test images, number of parameters.
        image: What the images are.
        condition: What the labels are.
        classifier: Architecture and training.
        dataset: Name to write into the report.
        seed: Of initial weights, order and augmentation.
        device: Where to compute.

    Raises:
        UserError: if the data do not fit the preset or the architecture is unknown.
    """
    train, test = read_dataset(data)
    check_fits(data, train, image, condition)
    where = choose_device(device)
    architecture = ArchitectureConfig(classifier.architecture, image, condition.count)
    torch.manual_seed(random.key(seed, "classifier weights"))
    network = build_classifier(architecture).to(where)
    fit(network, train, classifier, seed, where)
    write_classifier(output, network, architecture)
    write_json(
        report,
        {
            "dataset": dataset,
            "architecture": classifier.architecture,
            "test_accuracy": accuracy(network, test, where),
            "train_accuracy": accuracy(network, train, where),
            "test_images": len(test),
            "parameters": sum(p.numel() for p in network.parameters()),
            "seed": seed,
        },
    )
