"""Your own images: every layout and form, and all that may be wrong with them."""

import resource
import subprocess
import sys
import tarfile
import time
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from flowquant import __version__
from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.sources import ImagesSource, Layout
from flowquant.data import download
from flowquant.data.dataset import read_dataset, read_validation
from flowquant.data.sources.images import images
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import sha256
from flowquant.runtime.tensors import read_metadata, read_tensors
from image_files import encoded, write_folder, write_tar, write_zip
from project import ROOT

SPLITS = Layout(train="train", validation=None, test="test", test_fraction=None)
KINDS = ["PNG", "JPEG", "BMP", "WEBP", "GIF"]


def tree(
    classes: tuple[str, ...] = ("cat", "dog", "eel"),
    each: int = 4,
    parts: tuple[str, ...] = ("train", "test"),
    outer: str = "",
) -> dict[str, bytes]:
    """Pictures of several formats, sizes and modes: path → bytes, in no order."""
    files = {}
    for p, part in enumerate(parts):
        for c, name in enumerate(classes):
            for i in range(each):
                seed = 1000 * p + 100 * c + i
                content = encoded(seed, (9 + i, 12), KINDS[i % 5], ("RGB", "L")[i % 2])
                files["/".join(filter(None, [outer, part, name, f"{i}.{KINDS[i % 5]}"]))] = content
    return dict(sorted(files.items(), key=lambda item: item[0][::-1]))


def read(
    root: Path,
    path: str = "mine",
    count: int = 3,
    channels: Literal[1, 3] = 3,
    size: int = 8,
    layout: Layout = SPLITS,
    threads: int = 1,
    **settings: Any,
) -> Path:
    output = root / "out" / "mine.safetensors"
    images(
        output,
        data_root=root,
        source=ImagesSource(path=path, layout=layout, **settings),
        image=ImageConfig(channels=channels, size=size),
        condition=ConditionConfig(kind="class", count=count),
        threads=threads,
    )
    return output


def nothing_left(root: Path) -> bool:
    return not (root / "out").exists() or not list((root / "out").iterdir())


@pytest.mark.parametrize("channels", [1, 3])
def test_reads_a_folder(tmp_path: Path, channels: Literal[1, 3]) -> None:
    write_folder(tmp_path / "mine", tree() | {"README.txt": b"by me", "train/LICENSE": b"free"})
    output = read(tmp_path, channels=channels)
    train, test = read_dataset(output)
    assert train.images.shape == (12, channels, 8, 8)
    assert train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert train.labels.dtype == torch.int64
    assert test.labels.tolist() == train.labels.tolist()
    assert read_validation(output) is None
    assert read_metadata(output) == {
        "kind": "dataset",
        "version": 1,
        "made_by": f"flowquant {__version__}",
        "names": ["cat", "dog", "eel"],
        "skipped": 0,
        "source": "images of mine",
    }


def test_every_form_gives_the_same_file(tmp_path: Path) -> None:
    files = tree()
    write_folder(tmp_path / "mine", files)
    write_zip(tmp_path / "mine.zip", files)
    write_tar(tmp_path / "mine.tar.xz", files)
    write_tar(tmp_path / "mine.tgz", files, "gz")
    write_tar(tmp_path / "outer.tar", tree(outer=["my pictures", "of animals"][0]), "")
    found = {}
    for path in ("mine", "mine.zip", "mine.tar.xz", "mine.tgz", "outer.tar"):
        tensors, _ = read_tensors(read(tmp_path, path))
        found[path] = {name: tensor.clone() for name, tensor in tensors.items()}
    for tensors in found.values():
        for name, tensor in found["mine"].items():
            assert torch.equal(tensors[name], tensor)


def test_order_does_not_depend_on_the_processes(tmp_path: Path) -> None:
    write_folder(tmp_path / "mine", tree(each=30))
    one = sha256(read(tmp_path, threads=1))
    assert sha256(read(tmp_path, threads=3)) == one


def test_own_names_of_the_splits_and_nested_folders(tmp_path: Path) -> None:
    files = tree(parts=("training", "val", "held out"))
    files |= {"training/cat/more/of/them/x.png": encoded(7)}
    write_folder(tmp_path / "mine", files)
    output = read(
        tmp_path,
        layout=Layout(train="training", validation="val", test="held out", test_fraction=None),
    )
    assert [len(part) for part in read_dataset(output)] == [13, 12]
    validation = read_validation(output)
    assert validation is not None
    assert len(validation) == 12


@pytest.mark.parametrize("outer", ["", "animals"])
def test_one_folder_with_a_test_fraction(tmp_path: Path, outer: str) -> None:
    files = tree(each=10, parts=("",), outer=outer)
    write_zip(tmp_path / "mine.zip", files)
    layout = Layout(train="train", validation=None, test=None, test_fraction=0.3)
    train, test = read_dataset(read(tmp_path, "mine.zip", layout=layout))
    assert train.labels.bincount().tolist() == [7, 7, 7]
    assert test.labels.bincount().tolist() == [3, 3, 3]
    everything = torch.cat([train.images, test.images]).flatten(1)
    assert len(everything.unique(dim=0)) == 30


def test_a_new_image_moves_few_others_between_the_splits(tmp_path: Path) -> None:
    files = tree(classes=("cat",), each=20, parts=("",))
    layout = Layout(train="train", validation=None, test=None, test_fraction=0.25)
    write_folder(tmp_path / "mine", files)
    before = read_dataset(read(tmp_path, count=1, layout=layout))[1].images.clone()
    write_folder(tmp_path / "mine", {"cat/new.png": encoded(999)})
    after = read_dataset(read(tmp_path, count=1, layout=layout))[1].images
    kept = [any(torch.equal(image, other) for other in after) for image in before]
    assert sum(kept) >= 4


def test_imagenets_folders(tmp_path: Path) -> None:
    """A thousand classes under their synset names, `val` for testing, images of .JPEG."""
    content = encoded(1, (60, 40), "JPEG")
    names = [f"n{i * 7919:08d}" for i in range(1000)]
    files = {f"{part}/{name}/{name}_1.JPEG": content for part in ("train", "val") for name in names}
    write_tar(tmp_path / "imagenet.tar", files, "")
    layout = Layout(train="train", validation=None, test="val", test_fraction=None)
    output = read(tmp_path, "imagenet.tar", count=1000, size=16, layout=layout)
    train, test = read_dataset(output)
    assert train.labels.tolist() == test.labels.tolist() == list(range(1000))
    assert read_metadata(output)["names"] == names


def test_real_images(tmp_path: Path, shared_data: Path) -> None:
    """CIFAR-10 as JPEG: a few of the real files, as they lie in the archive."""
    with tarfile.open(shared_data / "cifar10-jpeg" / "cifar10-jpeg.tar.xz") as archive:
        members = ((m.name, archive.extractfile(m)) for m in islice(archive, 1100))
        files = {name: file.read() for name, file in members if file}
    files |= {name.replace("test/", "train/"): content for name, content in files.items()}
    write_tar(tmp_path / "some.tar.xz", files)
    train, _ = read_dataset(read(tmp_path, "some.tar.xz", count=2, size=32))
    assert train.images.shape[1:] == (3, 32, 32)
    assert 90 < train.images.float().mean() < 160


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no folder train/ with folders of images in it, but test"),
        ({"train/cat/1.png": b"x"}, "no image in train/dog, train/eel"),
        (tree(classes=("cat", "dog")), "no image in train/eel; expected at least one"),
        (tree(classes=("cat", "dog", "eel", "fox")), "no image in test/fox"),
        (tree() | {"train/1.png": b"x"}, "1 images outside of a class's folder: train/1.png"),
    ],
)
def test_bad_layouts(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    write_folder(tmp_path / "mine", tree(parts=("test",)))
    write_folder(tmp_path / "mine", {n: c for n, c in files.items() if n.startswith("train")})
    with pytest.raises(UserError, match=f"mine: found {message}"):
        read(tmp_path)
    assert nothing_left(tmp_path)


def test_empty_folder_of_a_class(tmp_path: Path) -> None:
    write_folder(tmp_path / "mine", tree())
    for part in ("train", "test"):
        (tmp_path / "mine" / part / "gnu").mkdir()
    with pytest.raises(UserError, match="found no image in train/gnu, test/gnu; expected"):
        read(tmp_path, count=4)
    assert nothing_left(tmp_path)


def test_other_number_of_classes(tmp_path: Path) -> None:
    write_folder(tmp_path / "mine", tree())
    with pytest.raises(UserError, match=r"found 3 classes \(cat, dog, eel\); expected 10 class"):
        read(tmp_path, count=10)
    assert nothing_left(tmp_path)


def test_class_of_one_image_cannot_be_split(tmp_path: Path) -> None:
    write_folder(tmp_path / "mine", tree(each=1, parts=("",)))
    with pytest.raises(UserError, match="found no image in test/cat"):
        read(tmp_path, layout=Layout(train="train", validation=None, test=None, test_fraction=0.5))


def test_bad_images_are_named_up_to_ten_and_counted(tmp_path: Path) -> None:
    files = tree()
    bad = {f"train/cat/bad {i:02d}.jpg": encoded(i, (99, 99), "JPEG")[:700] for i in range(13)}
    write_folder(tmp_path / "mine", files | bad)
    with pytest.raises(UserError) as error:
        read(tmp_path)
    message = str(error.value)
    assert "found 13 of 37 images unreadable or too small" in message
    assert message.count("bad ") == 10
    assert "and 3 more" in message
    assert nothing_left(tmp_path)
    train, _ = read_dataset(read(tmp_path, on_bad_image="skip"))
    assert train.labels.bincount().tolist() == [4, 4, 4]


def test_class_that_skipping_empties(tmp_path: Path) -> None:
    files = tree() | {f"test/dog/{i}.{KINDS[i]}": b"" for i in range(4)}
    write_folder(tmp_path / "mine", files)
    with pytest.raises(UserError, match="found no good image of class 1 for test"):
        read(tmp_path, on_bad_image="skip")
    assert nothing_left(tmp_path)


def test_images_smaller_than_the_patch(tmp_path: Path) -> None:
    write_folder(tmp_path / "mine", tree() | {"train/dog/tiny.png": encoded(0, (3, 30))})
    with pytest.raises(UserError, match=r"train/dog/tiny.png \(3×30 pixels, under 4\)"):
        read(tmp_path, least_side=4)
    assert nothing_left(tmp_path)


def test_archive_that_leads_out(tmp_path: Path) -> None:
    write_tar(tmp_path / "mine.tar", tree() | {"train/../../cat/1.png": b"x"}, "")
    with pytest.raises(UserError, match=r"mine\.tar: found a member named"):
        read(tmp_path, "mine.tar")
    assert nothing_left(tmp_path)


def test_missing_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mine: found no such file or folder.*`data_root`"):
        read(tmp_path)
    assert nothing_left(tmp_path)


def test_download(tmp_path: Path) -> None:
    served = write_zip(tmp_path / "server" / "mine.zip", tree())
    settings: dict[str, Any] = {"path": "here/mine.zip", "urls": (served.as_uri(),)}
    with pytest.raises(UserError, match=f"{sha256(served)} \\(removed\\).*{'2' * 64}"):
        read(tmp_path, sha256="2" * 64, **settings)
    assert not list((tmp_path / "here").iterdir())
    assert len(read_dataset(read(tmp_path, sha256=sha256(served), **settings))[0]) == 12
    with pytest.raises(UserError, match=f"found a file with SHA-256 {sha256(served)}"):
        read(tmp_path, sha256="2" * 64, **settings)


def test_a_download_too_large_for_its_place(tmp_path: Path) -> None:
    served = write_zip(tmp_path / "server" / "mine.zip", tree())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))
    try:
        with pytest.raises(UserError, match=r"mine.zip: found a file too large"):
            download.download((served.as_uri(),), tmp_path / "here" / "mine.zip")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "here").iterdir())


def test_conversion_onto_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "mine", tree())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("flowquant.data.tensor_stream.TensorStream.append", full)
    with pytest.raises(UserError, match="found a full disk"):
        read(tmp_path)
    assert nothing_left(tmp_path)


def test_odd_sizes_are_readable(tmp_path: Path) -> None:
    """Bytes of images that leave the labels unaligned in a plain layout: 3 × 5 × 5 × odd."""
    write_folder(tmp_path / "mine", tree(each=3) | {"train/cat/bad.png": b""})
    train, test = read_dataset(read(tmp_path, size=5, on_bad_image="skip"))
    assert train.images.shape == (9, 3, 5, 5)
    assert train.labels.tolist() == np.repeat([0, 1, 2], 3).tolist()
    assert test.labels.tolist() == train.labels.tolist()
    assert len(train.images.flatten(1).unique(dim=0)) == 9


def test_a_killed_conversion_leaves_no_process_and_the_next_one_no_file(tmp_path: Path) -> None:
    photo = encoded(1, (1500, 1500), "JPEG")
    files = {f"{part}/{name}/{i}": b"" for part in ("train", "test") for name in "ab" for i in "01"}
    many = {f"train/a/more {i}": photo for i in range(1000)}
    write_tar(tmp_path / "many.tar.gz", files | many, "gz")
    out = tmp_path / "out"
    command = [
        *(
            sys.executable,
            "-m",
            "flowquant",
            "dataset",
            "images",
            f"--output={out}/mine.safetensors",
        ),
        *(f"--data-root={tmp_path}", "--source.path=many.tar.gz", "--source.on-bad-image=skip"),
        *("--image.channels=3", "--image.size=8", "--condition.kind=class", "--condition.count=2"),
        "--threads=2",
    ]
    job = subprocess.Popen(
        command, cwd=ROOT / "workflow", stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not out.exists() or len(list(out.iterdir())) < 2 or len(alive(job.pid)) < 3:
        assert job.poll() is None
        time.sleep(0.02)
    job.kill()
    job.wait()
    until = time.monotonic() + 60
    while alive(job.pid) and time.monotonic() < until:
        time.sleep(0.1)
    assert not alive(job.pid)
    assert len(list(out.iterdir())) == 2
    write_folder(tmp_path / "mine", tree())
    output = read(tmp_path)
    assert list(out.iterdir()) == [output]


def alive(session: int) -> list[int]:
    """The running processes of a session."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, own = (process / "stat").read_text().rpartition(") ")[2].split()[:4]
        except OSError:
            continue
        if int(own) == session and state != "Z":
            found.append(int(process.name))
    return found
