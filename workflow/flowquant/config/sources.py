"""Where images come from: a section for each kind of source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from flowquant.config.fields import (
    EACH_ONCE,
    READS,
    Count,
    Item,
    Sha256,
    Url,
    Words,
    number,
    refuse,
    section,
)

OnBadImage = Literal["error", "skip"]
Share = Annotated[float, number(gt=0, lt=1)]
# A folder within another: neither absolute nor a way out of it.
Folder = Annotated[
    str,
    Field(
        strict=True,
        pattern=r"^[^/\x00-\x1f\x7f][^\x00-\x1f\x7f]*$",
        json_schema_extra={READS: "a folder inside `path`"},
    ),
]


@section
class DigitsSource:
    """scikit-learn's bundled 1,797 handwritten digits, 8×8 pixels in grey."""

    kind: Literal["digits"] = "digits"
    """scikit-learn's bundled digits."""

    test_fraction: Share = 0.3
    """Share of the digits that become the test split."""


@section
class Digests:
    """SHA-256 of each file's uncompressed content, so that any compression of it is accepted."""

    train_images: Sha256 | None = None
    """Of the training images."""

    train_labels: Sha256 | None = None
    """Of the training labels."""

    test_images: Sha256 | None = None
    """Of the test images."""

    test_labels: Sha256 | None = None
    """Of the test labels."""


@section
class IdxSource:
    """IDX files, the format of MNIST and its kin."""

    kind: Literal["idx"] = "idx"
    """IDX files."""

    folder: Words
    """Folder of the files in the data root."""

    urls: tuple[Url, ...] = ()
    """Folders on the network to download missing files from, tried in order."""

    sha256: Digests = Digests()
    """SHA-256 of each file's uncompressed content."""


@section
class Cifar10Source:
    """CIFAR-10's official python archive."""

    kind: Literal["cifar10"] = "cifar10"
    """CIFAR-10's python archive."""

    folder: Words
    """Folder in the data root of ``cifar-10-batches-py/`` or ``cifar-10-python.tar.gz``."""

    urls: tuple[Url, ...] = ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",)
    """Where to get the archive, tried in order."""

    sha256: Sha256 | None = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
    """SHA-256 of the archive; ``null`` to take any."""


@section
class CelebaSource:
    """CelebA as distributed: aligned faces with 40 attributes, in three parts."""

    kind: Literal["celeba"] = "celeba"
    """CelebA as distributed."""

    folder: Words
    """Folder in the data root of ``img_align_celeba`` (folder or ``.zip``),
    ``list_attr_celeba.txt`` and ``list_eval_partition.txt``."""

    crop: Count | None = 178
    """Side in pixels of the square cut from the centre before resizing; ``null``: the largest."""

    attributes: Annotated[tuple[Item, ...], EACH_ONCE] = ()
    """Names of the attributes to keep, in this order; none: all."""

    on_bad_image: OnBadImage = "error"
    """Whether unreadable or too small images end the work or are left out (``skip``)."""


@section
class Layout:
    """Folders of the splits, each with a folder for each class."""

    train: Folder = "train"
    """Folder of the training images."""

    validation: Folder | None = None
    """Folder of validation images; ``null`` for none."""

    test: Folder | None = "test"
    """Folder of the test images."""

    test_fraction: Share | None = None
    """Share of each class that becomes the test split, where all classes lie in one folder; then
    the folders are not used."""

    @model_validator(mode="after")
    def _check(self) -> Layout:
        if self.test_fraction is not None:
            return self
        if self.test is None:
            refuse(
                "test",
                found="neither `test` nor `test_fraction`",
                expected="one of them",
                remedy="Name the folder of the test images, or the share of images to test with.",
            )
        seen: dict[str, str] = {}
        for part in ("train", "validation", "test"):
            folder = getattr(self, part)
            if folder is None:
                continue
            steps = [step for step in folder.split("/") if step not in ("", ".")]
            if ".." in steps or not steps:
                refuse(
                    part,
                    found=f"'{folder}'",
                    expected="a folder inside `path`",
                    remedy="Name a folder of the split, without `..`.",
                )
            other = seen.setdefault("/".join(steps), part)
            if other != part:
                refuse(
                    part,
                    found=f"'{folder}', which is `{other}` too",
                    expected="splits in folders of their own, or results are of no worth",
                    remedy="Name another folder, or set `test_fraction` to divide one.",
                )
        return self


@section
class ImagesSource:
    """Your own images: a folder or an archive with a folder for each class."""

    kind: Literal["images"] = "images"
    """Image files, a folder for each class."""

    path: Words
    """Folder, or ``.zip``, ``.tar``, ``.tar.gz``, ``.tar.bz2`` or ``.tar.xz`` archive, in the data
    root."""

    layout: Layout = Layout()
    """Folders of the splits, each with a folder for each class."""

    urls: tuple[Url, ...] = ()
    """Where to get the archive, tried in order."""

    sha256: Sha256 | None = None
    """SHA-256 of the archive; ``null`` to take any."""

    crop: Count | None = None
    """Side in pixels of the square cut from the centre before resizing; ``null``: the largest."""

    least_side: Count | None = None
    """Shorter side in pixels below which an image is bad; ``null``: the network's patch,
    or what the deepest level of a U-Net makes of a pixel."""

    on_bad_image: OnBadImage = "error"
    """Whether unreadable or too small images end the work or are left out (``skip``)."""


Source = Annotated[
    DigitsSource | IdxSource | Cifar10Source | CelebaSource | ImagesSource,
    Field(discriminator="kind"),
]
