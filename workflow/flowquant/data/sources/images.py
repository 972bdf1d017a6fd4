"""Your own images: a folder or an archive with a folder for each class."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.sources import ImagesSource, Layout
from flowquant.data.archive import Entry, Files, open_files, shared_parent
from flowquant.data.decode import Recipe
from flowquant.data.download import fetch
from flowquant.data.prepare import SplitFiles, prepare
from flowquant.runtime import random
from flowquant.runtime.errors import UserError, some

Classes = dict[str, list[Entry]]


def images(
    output: Path,
    data_root: Path,
    source: ImagesSource,
    image: ImageConfig,
    condition: ConditionConfig,
    threads: int = 0,
) -> None:
    """Decode, crop, resize and write images, classes by name and images by name in each.

    Args:
        output: The dataset file to write.
        data_root: Folder of all original data.
        source: Folder or archive in it, where to get that and what it must be; where its splits
            are, how images are cut, and what becomes of bad ones.
        image: What the images are to become.
        condition: How many classes there must be.
        threads: Processes that decode; 0: one for each core there is.

    Raises:
        UserError: if the layout or the number of classes differs from the preset's, a class is
            empty, or images are bad.
    """
    original = data_root / source.path
    if source.urls and not original.exists():
        fetch(source.urls, original, source.sha256)
    elif source.sha256 is not None and original.is_file():
        fetch((), original, source.sha256)
    with open_files(original, output) as files:
        splits = find_splits(files, source.layout)
        names = check_classes(original, splits, condition)
        prepare(
            output,
            original,
            {part: _files(classes, names) for part, classes in splits.items()},
            Recipe(image.channels, image.size, source.crop, source.least_side or 1),
            source.on_bad_image,
            threads,
            {"source": f"images of {source.path}", "names": names},
        )


def find_splits(files: Files, layout: Layout) -> dict[str, Classes]:
    """The images of each split by class; an archive's one outer folder is looked through.

    Raises:
        UserError: if a split's folder is missing, or images lie outside of a class's folder.
    """
    names = [entry.name for entry in files.entries]
    outer = shared_parent(names)
    if layout.test_fraction is not None:
        inner = [name.removeprefix(outer) for name in names]
        # One outer folder around the classes, and not one class.
        prefix = outer if outer and all("/" in name for name in inner) else ""
        return _divide(_by_class(files, prefix), layout.test_fraction)
    folders = {"train": layout.train, "validation": layout.validation, "test": layout.test}
    wanted = {part: folder.strip("/") for part, folder in folders.items() if folder}
    prefix = outer if any(name.startswith(f"{outer}{wanted['train']}/") for name in names) else ""
    splits = {part: _by_class(files, f"{prefix}{folder}/") for part, folder in wanted.items()}
    for part, classes in splits.items():
        if not classes:
            top = sorted({name.removeprefix(prefix).partition("/")[0] for name in names})
            raise UserError(
                files.path,
                found=f"no folder {wanted[part]}/ with folders of images in it, but "
                f"{some(top) or 'nothing'}",
                expected=", ".join(f"{folder}/<class>/*" for folder in wanted.values()),
                remedy="Name the folders under `source.layout` in the preset, or give "
                "`test_fraction` if there is but one folder of classes.",
            )
    return splits


def _by_class(files: Files, prefix: str) -> Classes:
    """The images under ``prefix`` by the first folder of their names."""
    classes: Classes = {
        folder.removeprefix(prefix): []
        for folder in sorted(files.folders)
        if folder.startswith(prefix) and "/" not in folder.removeprefix(prefix)
    }
    stray = []
    for entry in files.entries:
        if entry.name.startswith(prefix):
            name, _, inner = entry.name.removeprefix(prefix).partition("/")
            if inner:
                classes.setdefault(name, []).append(entry)
            elif _is_named_image(name):
                stray.append(entry.name)
    if stray:
        raise UserError(
            files.path,
            found=f"{len(stray):,} images outside of a class's folder: {some(stray)}",
            expected=f"{prefix}<class>/<image>",
            remedy="Put each image into the folder of its class.",
        )
    return classes


def _is_named_image(name: str) -> bool:
    """Whether a file is an image by its name: beside the classes' folders, a README may lie."""
    return Path(name).suffix.lower() in Image.registered_extensions()


def _divide(classes: Classes, fraction: float) -> dict[str, Classes]:
    """Training and test images, the share of each class drawn by name.

    An image's part depends only on its name and those of its class, and each part gets at least
    one image of a class of two or more.
    """
    parts: dict[str, Classes] = {"train": {}, "test": {}}
    for name, entries in classes.items():
        count = min(max(1, round(len(entries) * fraction)), len(entries) - 1)
        ranked = sorted(entries, key=lambda e: random.key(0, f"test image {e.name}"))
        test = {entry.name for entry in ranked[: max(0, count)]}
        parts["test"][name] = [entry for entry in entries if entry.name in test]
        parts["train"][name] = [entry for entry in entries if entry.name not in test]
    return parts


def check_classes(path: Path, splits: dict[str, Classes], condition: ConditionConfig) -> list[str]:
    """The classes' names in order, the same in every split.

    Raises:
        UserError: if a class is empty, or their number differs from the preset's.
    """
    names = sorted(set().union(*splits.values()))
    empty = [
        f"{part}/{name}"
        for part, classes in splits.items()
        for name in names
        if not classes.get(name)
    ]
    if empty:
        raise UserError(
            path,
            found=f"no image in {some(empty)}",
            expected="at least one of each class in every split",
            remedy="Add images or remove the class; classes are folders, and must have the same "
            "names in every split.",
        )
    if condition.kind != "class" or len(names) != condition.count:
        raise UserError(
            path,
            found=f"{len(names)} classes ({some(names)})",
            expected=f"{condition.count} {condition.kind}, as the preset's `condition` says",
            remedy=f"Set `condition: {{kind: class, count: {len(names)}}}` in the preset.",
        )
    return names


def _files(classes: Classes, names: Sequence[str]) -> SplitFiles:
    """A split's images, class by class, each with its class's number."""
    entries = [entry for name in names for entry in classes[name]]
    counts = [len(classes[name]) for name in names]
    return SplitFiles(entries, np.repeat(np.arange(len(names), dtype=np.int64), counts))
