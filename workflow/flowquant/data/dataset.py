"""A dataset as a file: uint8 images and what they are conditioned on, in two or three splits."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.runtime.errors import UserError
from flowquant.runtime.header import Kind
from flowquant.runtime.tensors import read_file, write_tensors


@dataclass(frozen=True)
class DatasetMetadata:
    """Nothing that a dataset's metadata must say: where it came from is for people."""


IMAGES = "uint8 [{n}, 1, S, S] or uint8 [{n}, 3, S, S]"
LABELS = "int64 [{n}] or uint8 [{n}, A]"


def _forms(part: str, n: str) -> dict[str, str]:
    return {f"{part}_images": IMAGES.format(n=n), f"{part}_labels": LABELS.format(n=n)}


DATASET = Kind(
    "dataset",
    "`dataset`",
    DatasetMetadata,
    _forms("train", "N") | _forms("test", "M"),
    _forms("validation", "V"),
    digest=False,
)


@dataclass(frozen=True)
class Split:
    """Images uint8 [N, C, H, W] with classes int64 [N] or attributes uint8 [N, A]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Part:
    """Some rows of a split, int64 [N]."""

    split: Split
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)


def write_dataset(
    path: Path,
    train: Split,
    test: Split,
    image: ImageConfig,
    condition: ConditionConfig,
    provenance: Mapping[str, Any],
) -> None:
    """Write both splits as one safetensors file.

    Raises:
        UserError: if a split is not as the preset says.
    """
    for split in (train, test):
        check_fits(path, split, image, condition)
    tensors = {
        "train_images": train.images,
        "train_labels": train.labels,
        "test_images": test.images,
        "test_labels": test.labels,
    }
    write_tensors(path, tensors, provenance, DATASET)


def read_dataset(path: Path) -> tuple[Split, Split]:
    """Read the training and the test split, memory-mapped.

    Raises:
        UserError: if the file is unreadable or is no dataset.
    """
    tensors = read_file(path, DATASET).tensors
    train, test = (Split(tensors[f"{p}_images"], tensors[f"{p}_labels"]) for p in ("train", "test"))
    return train, test


def read_validation(path: Path) -> Split | None:
    """The dataset's own validation split, memory-mapped; None if it has none.

    Raises:
        UserError: as `read_dataset`.
    """
    tensors = read_file(path, DATASET).tensors
    if "validation_images" not in tensors:
        return None
    return Split(tensors["validation_images"], tensors["validation_labels"])


def place(split: Split, device: torch.device) -> Split:
    """The split on the device, if it takes at most half of the free memory there.

    A larger one, and any on a CPU, stays memory-mapped: rows are read as they are used.
    """
    if device.type == "cpu" or split.images.nbytes > torch.cuda.mem_get_info(device)[0] / 2:
        return split
    return Split(split.images.to(device), split.labels.to(device))


def check_fits(path: Path, split: Split, image: ImageConfig, condition: ConditionConfig) -> None:
    """Check that a split's shapes and labels are those of a preset.

    Raises:
        UserError: if the images' shape, or the labels' shape or range, differs.
    """
    shape, expected = tuple(split.images.shape[1:]), (image.channels, image.size, image.size)
    if shape != expected:
        raise UserError(
            path,
            found=f"images of shape {shape}",
            expected=f"{expected}, as the preset's `image` says",
            remedy="Correct `image.channels` and `image.size`, or the source.",
        )
    check_labels(path, split.labels, condition)


def check_labels(path: Path, labels: Tensor, condition: ConditionConfig) -> None:
    """Check that labels, int64 [N] or uint8 [N, A], are those of a preset.

    Raises:
        UserError: if their shape or range differs.
    """
    if condition.kind == "attributes":
        of_count = labels.dim() == 2 and labels.shape[1] == condition.count
        fits = of_count and int(labels.max()) <= 1
        found = f"labels of shape {tuple(labels.shape)} up to {int(labels.max())}"
    else:
        fits = labels.dim() == 1 and not bool(((labels < 0) | (labels >= condition.count)).any())
        found = f"labels from {int(labels.min())} to {int(labels.max())}"
    if not fits:
        raise UserError(
            path,
            found=found,
            expected=f"{condition.count} {condition.kind}, as the preset's `condition` says",
            remedy="Correct `condition.kind` and `condition.count`, or the source.",
        )
