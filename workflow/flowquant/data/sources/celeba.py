"""CelebA as distributed: aligned faces, 40 attributes of each, and its own three parts."""

from pathlib import Path, PurePosixPath

import numpy as np

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.sources import CelebaSource
from flowquant.data.archive import Entry, open_files
from flowquant.data.decode import Recipe
from flowquant.data.prepare import SplitFiles, prepare
from flowquant.data.tensor_stream import Array
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.files import regular

IMAGES = ("img_align_celeba", "img_align_celeba.zip")
ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
# Subfolders of the official drive, for those who downloaded it as it is.
SUBFOLDERS = ("", "Anno", "Eval", "Img")
PARTS = {"train": 0, "validation": 1, "test": 2}


def celeba(
    output: Path,
    data_root: Path,
    source: CelebaSource,
    image: ImageConfig,
    condition: ConditionConfig,
    threads: int = 0,
) -> None:
    """Crop, resize and write the faces with their attributes, in the partition file's order.

    Args:
        output: The dataset file to write.
        data_root: Folder of all original data.
        source: Where in it images, attributes and partition are; how images are cut, which
            attributes are kept, and what becomes of bad images.
        image: What the images are to become.
        condition: How many attributes there must be.
        threads: Processes that decode; 0: one for each core there is.

    Raises:
        UserError: if a file, an image or an attribute is missing or unreadable.
    """
    root = data_root / source.folder
    attribute_file, partition_file = find(root, ATTRIBUTES), find(root, PARTITION)
    images = find(root, *IMAGES)
    names, table = read_attributes(attribute_file)
    columns = choose_columns(attribute_file, names, source.attributes, condition)
    parts = read_partition(partition_file)
    check_same_images(attribute_file, set(table), partition_file, list(parts))
    check_same_images(partition_file, set(parts), attribute_file, list(table))
    recipe = Recipe(image.channels, image.size, source.crop)
    with open_files(images, output) as files:
        entries = {PurePosixPath(entry.name).name: entry for entry in files.entries}
        check_same_images(images, set(entries), partition_file, list(parts))
        splits = {}
        for part, number in PARTS.items():
            own = [name for name in parts if parts[name] == number]
            if own:
                labels = np.stack([table[name] for name in own])[:, columns]
                splits[part] = SplitFiles([entries[name] for name in own], labels)
            elif part != "validation":
                raise UserError(
                    partition_file,
                    found=f"no image of part {number} ({part})",
                    expected="images to train on (0) and to test with (2)",
                    remedy="Take the official file.",
                )
        metadata = {
            "source": "CelebA, aligned and cropped",
            "names": [names[column] for column in columns],
            "crop": source.crop,
        }
        prepare(output, images, splits, recipe, source.on_bad_image, threads, metadata)


def find(root: Path, *names: str) -> Path:
    """The first of ``names`` in the folder or in the subfolders of the official drive.

    Raises:
        UserError: if there is none; says where to get CelebA and where to put it.
    """
    for name in names:
        for subfolder in SUBFOLDERS:
            if (path := root / subfolder / name).exists():
                return regular(path, or_folder=True)
    raise UserError(
        root / names[0],
        found="no such file" if len(names) == 1 else f"neither {' nor '.join(names)}",
        expected=f"img_align_celeba.zip (or its folder), {ATTRIBUTES} and {PARTITION}",
        remedy="CelebA has no direct link: get `Align&Cropped Images`, `Attributes Annotations` "
        "and `Train/Val/Test Partitions` from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html "
        f"and put the three into {root}, or set `data_root` to where they are.",
    )


def read_attributes(path: Path) -> tuple[list[str], dict[str, Array]]:
    """The attributes' names, and for each image 0 (−1 in the file) or 1, uint8 [A].

    Format: the number of images; the names; then a line for each image, its file's name and −1
    or 1 for each attribute, separated by spaces.

    Raises:
        UserError: if a line has another form, or their number is not that of the first line.
    """
    count, header, *lines = [*_lines(path), "", ""]
    names = header.split()
    table = {}
    for line in filter(None, lines):
        name, *values = line.split()
        if len(values) != len(names) or not set(values) <= {"1", "-1"}:
            raise UserError(
                path,
                found=f"{len(values)} values for {name}"
                + ("" if len(values) != len(names) else ", some neither 1 nor -1"),
                expected=f"1 or -1 for each of the {len(names)} attributes of the second line",
                remedy="The file is damaged or changed: take the official one.",
            )
        table[name] = np.array([value == "1" for value in values], dtype=np.uint8)
    if count != str(len(table)):
        raise UserError(
            path,
            found=f"{len(table)} images",
            expected=f"{count[:20] or 'a number'}, as the first line says",
            remedy="The file is cut off or changed: take the official one.",
        )
    return names, table


def read_partition(path: Path) -> dict[str, int]:
    """For each image its part: 0 train, 1 validation, 2 test.

    Raises:
        UserError: if a line has another form.
    """
    parts = {}
    for line in filter(None, _lines(path)):
        match line.split():
            case [name, "0" | "1" | "2" as part]:
                parts[name] = int(part)
            case _:
                raise UserError(
                    path,
                    found=f"the line '{line[:60]}'",
                    expected="an image's name and 0, 1 or 2",
                    remedy="The file is damaged or changed: take the official one.",
                )
    return parts


def _lines(path: Path) -> list[str]:
    """The lines of an ASCII file, without spaces at their ends."""
    try:
        text = Entry(path.name, str(path)).read().decode("ascii")
        return [line.strip() for line in text.splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(
            path,
            found=str(error),
            expected="a text file",
            remedy="Take the official file.",
        ) from error


def choose_columns(
    path: Path, names: list[str], wanted: tuple[str, ...], condition: ConditionConfig
) -> list[int]:
    """Indices of the wanted attributes.

    Raises:
        UserError: if one is missing, or their number differs from the preset's.
    """
    missing = [name for name in wanted if name not in names]
    count = len(wanted) or len(names)
    if missing or condition.kind != "attributes" or count != condition.count:
        raise UserError(
            path,
            found=f"no attribute {some(missing)}" if missing else f"{count} attributes",
            expected=f"{condition.count} {condition.kind}, as the preset's `condition` says, "
            f"among {some(names, 40)}",
            remedy="Correct the preset's `condition` or `source.attributes`, or take the official "
            "file.",
        )
    return [names.index(name) for name in wanted or names]


def check_same_images(path: Path, present: set[str], partition: Path, wanted: list[str]) -> None:
    """Raise a `UserError` if images of the partition file are absent; names ten, counts all."""
    absent = [name for name in wanted if name not in present]
    if absent:
        raise UserError(
            path,
            found=f"{len(absent):,} of {len(wanted):,} images absent: {some(absent)}",
            expected=f"every image that {partition.name} names",
            remedy="The archive, attributes and partition must be whole and of one release: "
            "copy or download anew what is cut off.",
        )
