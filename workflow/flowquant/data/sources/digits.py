"""scikit-learn's bundled handwritten digits: 1,797 real images of 8×8 pixels, no download."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.sources import DigitsSource
from flowquant.data.dataset import Split, write_dataset
from flowquant.runtime import random


def digits(
    output: Path,
    data_root: Path,
    source: DigitsSource,
    image: ImageConfig,
    condition: ConditionConfig,
    threads: int = 1,
) -> None:
    """Write the digits, grey values 0…16 stretched to 0…255, with a stratified test split.

    Args:
        output: The dataset file to write.
        data_root: Not used: the images come with scikit-learn.
        source: Which share of the images becomes the test split, evenly over the classes.
        image: What the images must be.
        condition: What the labels must be.
        threads: Not used: there is nothing to decode.
    """
    from sklearn.datasets import load_digits

    images, target = load_digits(return_X_y=True)
    grey = torch.from_numpy(np.rint(images * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
    labels = torch.from_numpy(target.astype(np.int64))
    order = torch.randperm(len(grey), generator=random.generator(0, "digits split"))
    order = stratified_order(labels, order)
    split = round(len(grey) * source.test_fraction)
    test, train = order[:split], order[split:]
    write_dataset(
        output,
        Split(grey[train], labels[train]),
        Split(grey[test], labels[test]),
        image,
        condition,
        {"source": "scikit-learn load_digits (UCI optical recognition of handwritten digits)"},
    )


def stratified_order(labels: Tensor, order: Tensor) -> Tensor:
    """A permutation that takes the classes in turn, in each class by ``order``; int64 [N]."""
    rank = torch.empty_like(order)
    shuffled = labels[order]
    for label in shuffled.unique():
        members = order[shuffled == label]
        rank[members] = torch.arange(len(members))
    return order[torch.argsort(rank[order], stable=True)]
