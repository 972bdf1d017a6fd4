"""From image files to a dataset file: decoded on all cores, written as they come."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from flowquant.config.sources import OnBadImage
from flowquant.data.archive import Entry
from flowquant.data.dataset import DATASET
from flowquant.data.decode import Recipe, decode_all
from flowquant.data.tensor_stream import Array, stream_tensors
from flowquant.runtime.errors import UserError, some


@dataclass(frozen=True)
class SplitFiles:
    """A split before decoding: image files with classes int64 [N] or attributes uint8 [N, A]."""

    entries: Sequence[Entry]
    labels: Array


def prepare(
    output: Path,
    source: Path,
    splits: Mapping[str, SplitFiles],
    recipe: Recipe,
    on_bad_image: OnBadImage,
    threads: int,
    metadata: Mapping[str, Any],
) -> None:
    """Decode all splits' images and write them as one dataset file.

    Memory holds the names and labels and the images in flight, not the images.

    Args:
        output: The dataset file to write.
        source: Folder or archive of the images, for messages.
        splits: ``train``, ``test`` and maybe ``validation``.
        recipe: How an image is decoded.
        on_bad_image: Whether an unreadable or too small image ends the work or is left out.
        threads: Processes that decode; 0: one for each core there is.
        metadata: Provenance of the dataset; the number of images left out is added.

    Raises:
        UserError: if images are bad and must not be left out, or a class has none left.
    """
    total = sum(len(split.entries) for split in splits.values())
    # Metadata are a JSON string in JSON: each quotation mark takes two bytes.
    room = sum(s.labels.nbytes for s in splits.values()) + 2 * len(json.dumps(metadata))
    bad: list[str] = []
    good: dict[str, list[Any]] = {part: [] for part in splits}
    with (
        stream_tensors(output, room) as stream,
        tqdm(total=total, desc=output.stem, unit="image", mininterval=1.0) as bar,
    ):
        for part, split in splits.items():
            for decoded in decode_all(split.entries, recipe, threads):
                stream.append(f"{part}_images", decoded.pixels)
                good[part].append(decoded.good)
                bad += decoded.bad
                bar.update(len(decoded.good))
        if bad and on_bad_image == "error":
            raise UserError(
                source,
                found=f"{len(bad):,} of {total:,} images unreadable or too small: {some(bad)}",
                expected="whole images",
                remedy="Repair or remove them, or set `on_bad_image: skip` in the preset's "
                "`source` to leave them out.",
            )
        labels = {}
        for part, split in splits.items():
            left = split.labels[np.concatenate(good[part])]
            _check_what_is_left(source, part, split.labels, left)
            labels[f"{part}_labels"] = left
        stream.finish(labels, DATASET.label({**metadata, "skipped": len(bad)}))
    if bad:
        print(f"left out {len(bad):,} of {total:,} images: {some(bad)}", file=sys.stderr)


def _check_what_is_left(source: Path, part: str, before: Array, after: Array) -> None:
    """Refuse a split in which a class has no good image; labels before and after."""
    lost = [] if before.ndim > 1 else sorted(set(before.tolist()) - set(after.tolist()))
    if lost or not len(after):
        raise UserError(
            source,
            found="no good image" + (f" of class {some(lost)}" if lost else "") + f" for {part}",
            expected="at least one, after the bad ones were left out",
            remedy="Repair the images, or take the class out of the data.",
        )
