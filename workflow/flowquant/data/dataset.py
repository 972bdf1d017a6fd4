"""A dataset as a file: uint8 images and what they are conditioned on, in two or three splits."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import read_tensors, write_tensors


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
    write_tensors(path, tensors, provenance)


def read_dataset(path: Path) -> tuple[Split, Split]:
    """Read the training and the test split, memory-mapped.

    Raises:
        UserError: if the file is unreadable or is no dataset.
    """
    tensors, _ = read_tensors(path)
    try:
        return tuple(  # type: ignore[return-value]
            Split(tensors[f"{part}_images"], tensors[f"{part}_labels"])
            for part in ("train", "test")
        )
    except KeyError as error:
        raise UserError(
            path,
            found=f"no tensor {error}",
            expected="train_images, train_labels, test_images, test_labels",
            remedy="Delete the file and run the `dataset` rule again.",
        ) from error


def read_validation(path: Path) -> Split | None:
    """The dataset's own validation split, memory-mapped; None if it has none.

    Raises:
        UserError: if the file is unreadable.
    """
    tensors, _ = read_tensors(path)
    images, labels = (tensors.get(f"validation_{part}") for part in ("images", "labels"))
    return None if images is None or labels is None else Split(images, labels)


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
    if condition.kind == "attributes":
        fits = split.labels.dim() == 2 and split.labels.shape[1] == condition.count
        found = f"labels of shape {tuple(split.labels.shape)}"
    else:
        fits = split.labels.dim() == 1 and not bool(
            ((split.labels < 0) | (split.labels >= condition.count)).any()
        )
        found = f"labels from {int(split.labels.min())} to {int(split.labels.max())}"
    if not fits:
        raise UserError(
            path,
            found=found,
            expected=f"{condition.count} {condition.kind}, as the preset's `condition` says",
            remedy="Correct `condition.kind` and `condition.count`, or the source.",
        )
