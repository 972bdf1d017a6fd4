"""CelebA as it is distributed, with its quirks, and everything that may be wrong with it."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.sources import CelebaSource
from flowquant.data.dataset import read_dataset, read_validation
from flowquant.data.decode import Recipe, decode
from flowquant.data.sources.celeba import celeba
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import read_metadata
from image_files import encoded, write_folder, write_zip

NAMES = ["5_o_Clock_Shadow", "Bald", "Smiling", "Young"]
Faces = dict[str, tuple[list[int], int]]
# Image → attributes and part, as the official files have them.
FACES: Faces = {
    "000001.jpg": ([-1, 1, 1, -1], 0),
    "000002.jpg": ([1, -1, -1, -1], 0),
    "000003.jpg": ([-1, -1, 1, 1], 1),
    "000004.jpg": ([1, 1, 1, 1], 2),
    "000005.jpg": ([-1, -1, -1, -1], 0),
    "000006.jpg": ([-1, -1, -1, 1], 2),
}
PICTURES = {name: encoded(i, (178, 218), "JPEG") for i, name in enumerate(FACES)}


def attribute_file(faces: Faces = FACES, names: list[str] = NAMES, count: int | None = None) -> str:
    # Two digits a value, so one or two spaces between; one after the last name.
    lines = [str(count or len(faces)), " ".join(names) + " "]
    lines += [
        f"{name} " + " ".join(f"{v:2d}" for v in values) for name, (values, _) in faces.items()
    ]
    return "\n".join(lines) + "\n"


def partition_file(faces: Faces = FACES) -> str:
    return "".join(f"{name} {part}\n" for name, (_, part) in faces.items())


def lay_out(
    root: Path,
    pictures: dict[str, bytes] = PICTURES,
    attributes: str | None = None,
    partition: str | None = None,
    zipped: bool = False,
) -> Path:
    place = root / "data" / "celeba"
    inside = {f"img_align_celeba/{name}": content for name, content in pictures.items()}
    if zipped:
        write_zip(place / "img_align_celeba.zip", inside)
    else:
        write_folder(place, inside)
    (place / "list_attr_celeba.txt").write_text(attributes or attribute_file())
    (place / "list_eval_partition.txt").write_text(partition or partition_file())
    return place


def read(
    root: Path,
    count: int = 4,
    kind: Literal["class", "attributes"] = "attributes",
    **settings: Any,
) -> Path:
    output = root / "out" / "celeba.safetensors"
    celeba(
        output,
        data_root=root / "data",
        source=CelebaSource(folder="celeba", **settings),
        image=ImageConfig(channels=3, size=64),
        condition=ConditionConfig(kind=kind, count=count),
        threads=1,
    )
    return output


def nothing_left(root: Path) -> bool:
    return not (root / "out").exists() or not list((root / "out").iterdir())


@pytest.mark.parametrize("zipped", [False, True])
def test_reads_the_official_files(tmp_path: Path, zipped: bool) -> None:
    lay_out(tmp_path, zipped=zipped)
    output = read(tmp_path)
    train, test = read_dataset(output)
    validation = read_validation(output)
    assert validation is not None
    assert [len(part) for part in (train, validation, test)] == [3, 1, 2]
    assert train.images.shape == (3, 3, 64, 64)
    assert train.labels.dtype == torch.uint8
    assert train.labels.tolist() == [[0, 1, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert validation.labels.tolist() == [[0, 0, 1, 1]]
    assert test.labels.tolist() == [[1, 1, 1, 1], [0, 0, 0, 1]]
    for images, names in ((train.images, [1, 2, 5]), (test.images, [4, 6])):
        for found, number in zip(images, names, strict=True):
            by_hand = decode(PICTURES[f"00000{number}.jpg"], Recipe(3, 64, crop=178))
            assert np.array_equal(found.numpy(), by_hand)
    metadata = read_metadata(output)
    assert metadata["names"] == NAMES
    assert metadata["skipped"] == 0
    assert list(output.parent.iterdir()) == [output]


def test_the_drives_own_folders_do_as_well(tmp_path: Path) -> None:
    place = lay_out(tmp_path)
    for name, folder in (("list_attr_celeba.txt", "Anno"), ("list_eval_partition.txt", "Eval")):
        (place / folder).mkdir()
        (place / name).rename(place / folder / name)
    (place / "Img").mkdir()
    (place / "img_align_celeba").rename(place / "Img" / "img_align_celeba")
    assert len(read_dataset(read(tmp_path))[0]) == 3


def test_some_attributes_in_an_order_of_ones_own(tmp_path: Path) -> None:
    lay_out(tmp_path)
    output = read(tmp_path, count=2, attributes=("Young", "Bald"))
    assert read_dataset(output)[0].labels.tolist() == [[0, 1], [0, 0], [0, 0]]
    assert read_metadata(output)["names"] == ["Young", "Bald"]


def test_no_validation_part(tmp_path: Path) -> None:
    partition = partition_file().replace(".jpg 1", ".jpg 0")
    lay_out(tmp_path, partition=partition)
    output = read(tmp_path)
    assert read_validation(output) is None
    assert len(read_dataset(output)[0]) == 4


@pytest.mark.parametrize(
    "name", ["list_attr_celeba.txt", "list_eval_partition.txt", "img_align_celeba"]
)
def test_missing_file_says_where_to_get_it_and_where_to_put_it(tmp_path: Path, name: str) -> None:
    place = lay_out(tmp_path)
    (place / name).rename(tmp_path / name)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(error.value).startswith(f"{place / name}: found")
    assert "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html" in str(error.value)
    assert f"put the three into {place}" in str(error.value)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (attribute_file().replace("6\n", "7\n", 1), "found 6 images; expected 7"),
        (attribute_file().replace("-1  1  1 -1", "-1  1  1"), "3 values for 000001.jpg"),
        (attribute_file().replace("-1  1  1 -1", "-1  1  2 -1"), "some neither 1 nor -1"),
        (attribute_file(names=NAMES[:3]), "4 values for 000001.jpg"),
        ("0\n", "found 0 attributes"),
        ("\n", "found 0 images; expected a number"),
        (
            attribute_file({n: (v[:3], p) for n, (v, p) in FACES.items()}, NAMES[:3]),
            "found 3 attributes; expected 4 attributes",
        ),
        (
            attribute_file({n: FACES[n] for n in list(FACES)[:-2]}),
            "2 of 6 images absent: 000005.jpg, 000006.jpg",
        ),
    ],
)
def test_bad_attribute_files(tmp_path: Path, attributes: str | None, message: str) -> None:
    lay_out(tmp_path, attributes=attributes)
    with pytest.raises(UserError, match=f"list_attr_celeba.txt: .*{message}"):
        read(tmp_path)
    assert nothing_left(tmp_path)


def test_missing_attribute_column(tmp_path: Path) -> None:
    lay_out(tmp_path)
    with pytest.raises(UserError, match=r"found no attribute Beard; .* among 5_o_Clock_Shadow, "):
        read(tmp_path, count=2, attributes=("Beard", "Bald"))
    assert nothing_left(tmp_path)


def test_attributes_are_no_classes(tmp_path: Path) -> None:
    lay_out(tmp_path)
    with pytest.raises(UserError, match="expected 4 class"):
        read(tmp_path, kind="class")


@pytest.mark.parametrize("line", ["000001.jpg 3", "000001.jpg", "000001.jpg 0 1"])
def test_bad_partition_lines(tmp_path: Path, line: str) -> None:
    lay_out(tmp_path, partition=partition_file().replace("000001.jpg 0", line))
    with pytest.raises(UserError, match=f"list_eval_partition.txt: found the line '{line}'"):
        read(tmp_path)
    assert nothing_left(tmp_path)


def test_partition_without_test_images(tmp_path: Path) -> None:
    lay_out(tmp_path, partition=partition_file().replace(".jpg 2", ".jpg 0"))
    with pytest.raises(UserError, match=r"found no image of part 2 \(test\)"):
        read(tmp_path)


@pytest.mark.parametrize("zipped", [False, True])
def test_partition_naming_absent_images(tmp_path: Path, zipped: bool) -> None:
    faces = FACES | {f"{i:06d}.jpg": ([1, 1, 1, 1], 0) for i in range(7, 20)}
    lay_out(
        tmp_path, attributes=attribute_file(faces), partition=partition_file(faces), zipped=zipped
    )
    absent = ", ".join(f"{i:06d}.jpg" for i in range(7, 17))
    with pytest.raises(UserError, match=f"13 of 19 images absent: {absent} and 3 more; expected"):
        read(tmp_path)
    assert nothing_left(tmp_path)


def test_truncated_images_are_all_named(tmp_path: Path) -> None:
    bad = {name: content[:900] for name, content in list(PICTURES.items())[1::2]}
    lay_out(tmp_path, PICTURES | bad)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    message = str(error.value)
    assert "found 3 of 6 images unreadable or too small" in message
    assert all(name in message for name in bad)
    assert "`on_bad_image: skip`" in message
    assert nothing_left(tmp_path)


def test_bad_images_are_left_out_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lay_out(tmp_path, PICTURES | {"000002.jpg": b"no image"})
    output = read(tmp_path, on_bad_image="skip")
    train, test = read_dataset(output)
    assert train.labels.tolist() == [[0, 1, 1, 0], [0, 0, 0, 0]]
    assert len(test) == 2
    assert read_metadata(output)["skipped"] == 1
    assert "left out 1 of 6 images: 000002.jpg (no image)" in capsys.readouterr().err


def test_whole_part_left_out(tmp_path: Path) -> None:
    lay_out(tmp_path, PICTURES | {"000004.jpg": b"", "000006.jpg": b""})
    with pytest.raises(UserError, match="found no good image for test"):
        read(tmp_path, on_bad_image="skip")
    assert nothing_left(tmp_path)


def test_images_smaller_than_the_crop(tmp_path: Path) -> None:
    lay_out(tmp_path, PICTURES | {"000001.jpg": encoded(0, (100, 218), "JPEG")})
    with pytest.raises(UserError, match=r"000001.jpg \(100×218 pixels, under 178\)"):
        read(tmp_path)
    assert nothing_left(tmp_path)
