"""IDX files: the real ones, and every way in which one can be wrong."""

import gzip
import json
import os
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.sources import Digests, IdxSource
from flowquant.data.dataset import read_dataset
from flowquant.data.sources.idx import FILES, idx
from flowquant.runtime.errors import UserError
from project import ROOT

IMAGE, CLASSES = ImageConfig(channels=1, size=4), ConditionConfig(kind="class", count=10)


def idx_bytes(array: torch.Tensor) -> bytes:
    sizes = array.shape
    return struct.pack(f">BBBB{len(sizes)}I", 0, 0, 8, len(sizes), *sizes) + array.numpy().tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve training and five test images of 4×4, half of the files gzipped."""
    place = tmp_path / "tiny"
    place.mkdir()
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 12), ("test", 5)):
        images = torch.randint(0, 256, (count, 4, 4), dtype=torch.uint8, generator=generator)
        labels = (torch.arange(count) % 10).to(torch.uint8)
        (place / FILES[f"{part}_images"]).write_bytes(idx_bytes(images))
        (place / f"{FILES[f'{part}_labels']}.gz").write_bytes(gzip.compress(idx_bytes(labels)))
    return place


def convert(
    folder: Path, image: ImageConfig = IMAGE, condition: ConditionConfig = CLASSES, **more: Any
) -> Path:
    output = folder.parent / "out.safetensors"
    source = IdxSource(folder=folder.name, **more)
    idx(output, data_root=folder.parent, source=source, image=image, condition=condition)
    return output


def test_values_survive(folder: Path) -> None:
    train, test = read_dataset(convert(folder))
    assert train.images.shape == (12, 1, 4, 4)
    assert train.images.dtype == torch.uint8
    assert test.labels.tolist() == [0, 1, 2, 3, 4]
    raw = (folder / FILES["train_images"]).read_bytes()[16:]
    assert train.images.flatten().tolist() == list(raw)


def test_real_mnist(shared_data: Path, tmp_path: Path) -> None:
    preset_digests = ROOT / "config" / "datasets.yaml"
    import yaml

    source = yaml.safe_load(preset_digests.read_text())["presets"]["mnist"]["source"]
    output = tmp_path / "mnist.safetensors"
    idx(
        output,
        data_root=shared_data,
        source=IdxSource(folder="mnist", sha256=Digests(**source["sha256"])),
        image=ImageConfig(channels=1, size=28),
        condition=CLASSES,
    )
    train, test = read_dataset(output)
    assert train.images.shape == (60_000, 1, 28, 28)
    assert len(test) == 10_000
    assert torch.bincount(test.labels).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]


def damage(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    path = folder / name
    path.write_bytes(change(path.read_bytes()))


MISTAKES = [
    (
        FILES["train_images"],
        lambda b: b[:-7],
        r"train-images.*185 values; expected 192 \(12 × 4 × 4",
    ),
    (FILES["train_images"], lambda b: b + b"x", "found more values; expected 192"),
    (
        FILES["train_images"],
        lambda _: b"\x89PNG....",
        "starts with 89 50 4e 47; expected an IDX file",
    ),
    (FILES["train_images"], lambda _: b"", "starts with nothing"),
    (FILES["test_images"], lambda b: b[:10], "expected an IDX file"),
    (f"{FILES['test_labels']}.gz", lambda b: b[:-6], "damaged gzip data"),
    (
        f"{FILES['test_labels']}.gz",
        lambda b: gzip.compress(gzip.decompress(b)[:-1]),
        "4 values; expected 5",
    ),
    (
        f"{FILES['test_labels']}.gz",
        lambda _: gzip.compress(idx_bytes(torch.zeros(4, dtype=torch.uint8))),
        "4 labels for 5 images",
    ),
    (
        f"{FILES['test_labels']}.gz",
        lambda _: gzip.compress(idx_bytes(torch.full((5,), 11, dtype=torch.uint8))),
        "labels from 11 to 11; expected 10 class",
    ),
]


@pytest.mark.parametrize(("name", "change", "message"), MISTAKES, ids=range(len(MISTAKES)))
def test_damaged_files_are_reported(
    folder: Path, name: str, change: Callable[[bytes], bytes], message: str
) -> None:
    damage(folder, name, change)
    with pytest.raises(UserError, match=message):
        convert(folder)
    assert not (folder.parent / "out.safetensors").exists()


def test_foreign_content_is_reported(folder: Path) -> None:
    with pytest.raises(UserError, match=r"content with SHA-256 [0-9a-f]{64}; expected SHA-256 00"):
        convert(folder, sha256=Digests(train_images="0" * 64))


def test_images_of_another_size_are_reported(folder: Path) -> None:
    with pytest.raises(UserError, match=r"images of shape \(1, 4, 4\); expected \(1, 28, 28\)"):
        convert(folder, image=ImageConfig(channels=1, size=28))


def test_missing_files_without_a_network_are_reported(folder: Path) -> None:
    (folder / FILES["test_images"]).unlink()
    with pytest.raises(UserError, match="no such file, and no answer from any mirror"):
        convert(folder)
    with pytest.raises(UserError, match=r"no answer from http://localhost:9/x/t10k.*refused"):
        convert(folder, urls=("http://localhost:9/x",))


def test_a_download_of_other_content_is_refused_and_removed(folder: Path, tmp_path: Path) -> None:
    """A mirror that serves something else: here, through a file URL."""
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    name = FILES["test_images"]
    (folder / name).unlink()
    (mirror / f"{name}.gz").write_bytes(gzip.compress(b"<html>moved</html>"))
    with pytest.raises(UserError, match="starts with 3c 68 74 6d"):
        convert(folder, urls=(mirror.as_uri(),))


def test_the_command_line_tells_a_mistake_in_one_line(folder: Path) -> None:
    damage(folder, FILES["train_images"], lambda b: b[:-7])
    output = folder.parent / "out.safetensors"
    command = [
        *(sys.executable, "-m", "flowquant", "dataset", "idx", "--output", str(output)),
        *("--data-root", str(folder.parent), "--source.folder", folder.name),
        *("--image.channels", "1", "--image.size", "4"),
        *("--condition.kind", "class", "--condition.count", "10"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT / "workflow"
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert not output.exists()
    assert json.dumps(done.stdout) == '""'


@pytest.mark.parametrize("whole", [True, False])
def test_memory_is_bounded_by_what_the_header_declares(folder: Path, whole: bool) -> None:
    content = idx_bytes(torch.zeros(12, 4, 4, dtype=torch.uint8)) if whole else b""
    path = folder / FILES["train_images"]
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(content + bytes(64 << 20), 1))
    tracemalloc.start()
    with pytest.raises(UserError, match="more values; expected 192" if whole else "starts with 00"):
        convert(folder)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


def test_a_header_that_declares_more_than_there_is(folder: Path) -> None:
    damage(folder, FILES["train_images"], lambda b: b[:4] + b"\xff" * 12 + b[16:])
    with pytest.raises(UserError, match=f"found 192 values; expected {(2**32 - 1) ** 3:,}"):
        convert(folder)


def test_a_file_of_no_images(folder: Path) -> None:
    damage(folder, FILES["train_images"], lambda b: b[:4] + bytes(4) + b[8:16])
    with pytest.raises(UserError, match="found 0 values; expected some"):
        convert(folder)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_pipe_is_not_waited_for(folder: Path, suffix: str) -> None:
    path = folder / FILES["train_images"]
    path.unlink()
    os.mkfifo(f"{path}{suffix}")
    with pytest.raises(UserError, match=r"ubyte(\.gz)?: found a pipe"):
        convert(folder)
