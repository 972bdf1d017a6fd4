"""Draw real training images as if they were samples: the best scores that a model can expect."""

from pathlib import Path

import torch

from flowquant.config.model import ConditionConfig
from flowquant.data.dataset import check_labels, read_dataset
from flowquant.runtime import random
from flowquant.runtime.errors import UserError
from flowquant.sampling.samples import Origin, write_samples


def sample_real(
    data: Path, output: Path, dataset: str, count: int, seed: int, condition: ConditionConfig
) -> None:
    """Write ``count`` distinct training images as the variant ``real``.

    Args:
        data: Dataset file.
        output: Samples file to write.
        dataset: Name to write into the samples file.
        count: Number of images: as many as each variant samples.
        seed: Of the draw.
        condition: What the labels are.

    Raises:
        UserError: if there are too few training images, or their labels are others.
    """
    train, _ = read_dataset(data)
    check_labels(data, train.labels, condition)
    if count > len(train):
        raise UserError(
            "sampling.per_class",
            found=f"{count} samples in all",
            expected=f"at most {len(train)}, the number of training images, for the real floor",
            remedy="Sample fewer, or set `evaluation.floor: false`.",
        )
    rows = torch.randperm(len(train), generator=random.generator(seed, "real"))[:count]
    write_samples(output, train.images[rows], train.labels[rows], Origin(dataset, "real", seed))
