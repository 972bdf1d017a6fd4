"""CIFAR-10's archive in its exact form, and pickles that are not what they should be."""

import pickle
import pickletools
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.sources import Cifar10Source
from flowquant.data.dataset import read_dataset
from flowquant.data.sources import cifar10 as source
from flowquant.runtime.digest import PACKAGE
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import sha256
from flowquant.runtime.tensors import read_metadata
from image_files import write_folder, write_tar

IMAGE, CONDITION = ImageConfig(channels=3, size=32), ConditionConfig(kind="class", count=10)
NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse"]
NAMES += [b"ship", b"truck"]
Array = np.ndarray[Any, np.dtype[Any]]
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def python2_string(content: bytes) -> bytes:
    """The opcode with which Python 2 pickled a string; Python 3 has no way to write it."""
    if len(content) < 256:
        return b"U" + bytes([len(content)]) + content
    return b"T" + len(content).to_bytes(4, "little") + content


def python2_integer(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def python2_list(items: Iterable[bytes]) -> bytes:
    return b"](" + b"".join(items) + b"e"


def python2_array(values: Array, kind: bytes = b"u1") -> bytes:
    """As NumPy's `__reduce__` of the time: _reconstruct(ndarray, (0,), 'b') and its state."""
    shape = b"(" + b"".join(map(python2_integer, values.shape)) + b"t"
    dtype = b"cnumpy\ndtype\n(" + python2_string(kind) + b"K\x00K\x01tR"
    dtype += b"(K\x03" + python2_string(b"|") + b"NNN" + python2_integer(-1) * 2 + b"K\x00tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t"
    made += python2_string(b"b") + b"tR"
    state = b"(K\x01" + shape + dtype + b"\x89" + python2_string(values.tobytes()) + b"tb"
    return made + state


def python2_pickle(items: dict[bytes, bytes]) -> bytes:
    """A dictionary in protocol 2, keys as byte strings."""
    body = b"".join(python2_string(key) + value for key, value in items.items())
    return b"\x80\x02}(" + body + b"u."


def batch(seed: int, count: int = 4, kind: bytes = b"u1") -> tuple[bytes, Pixels, list[int]]:
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
    labels = rng.integers(0, 10, count).tolist()
    content = python2_pickle(
        {
            b"batch_label": python2_string(b"training batch 1 of 5"),
            b"labels": python2_list(map(python2_integer, labels)),
            b"data": python2_array(data, kind),
            b"filenames": python2_list([python2_string(b"leptodactylus_pentadactylus.png")]),
        }
    )
    return content, data, labels


# Name → content, pixels and labels.
BATCHES = {name: batch(seed) for seed, name in enumerate([*source.TRAIN, "test_batch"], 1)}


@pytest.fixture
def official() -> dict[str, bytes]:
    """Name → content of the seven files."""
    meta = python2_pickle(
        {
            b"num_cases_per_batch": python2_integer(4),
            b"label_names": python2_list(map(python2_string, NAMES)),
            b"num_vis": python2_integer(3072),
        }
    )
    return {name: content for name, (content, *_) in BATCHES.items()} | {"batches.meta": meta}


def as_folder(root: Path, files: dict[str, bytes]) -> None:
    folder = root / "cifar10" / "cifar-10-batches-py"
    write_folder(folder, files | {"readme.html": b"<a>CIFAR-10</a>"})


def as_archive(root: Path, files: dict[str, bytes]) -> Path:
    inside = {f"cifar-10-batches-py/{name}": content for name, content in files.items()}
    return write_tar(root / "cifar10" / "cifar-10-python.tar.gz", inside, "gz")


def read(root: Path, **settings: Any) -> Path:
    output = root / "out" / "cifar10.safetensors"
    wanted = Cifar10Source(folder="cifar10", **({"urls": (), "sha256": None} | settings))
    source.cifar10(output, data_root=root, source=wanted, image=IMAGE, condition=CONDITION)
    return output


def test_these_pickles_are_python_2s() -> None:
    content, pixels, _ = BATCHES["data_batch_1"]
    opcodes = {opcode.name for opcode, *_ in pickletools.genops(content)}
    assert {"SHORT_BINSTRING", "BINSTRING", "GLOBAL", "REDUCE", "BUILD"} <= opcodes
    plain = pickle.loads(content, encoding="bytes")
    assert np.array_equal(plain[b"data"], pixels)


@pytest.mark.parametrize("write", [as_folder, as_archive])
def test_reads_the_official_files(
    tmp_path: Path, official: dict[str, bytes], write: Callable[[Path, dict[str, bytes]], object]
) -> None:
    write(tmp_path, official)
    output = read(tmp_path)
    train, test = read_dataset(output)
    pixels = np.concatenate([BATCHES[name][1] for name in source.TRAIN]).reshape(-1, 3, 32, 32)
    labels = [label for name in source.TRAIN for label in BATCHES[name][2]]
    assert np.array_equal(train.images.numpy(), pixels)
    assert train.labels.tolist() == labels
    assert train.labels.dtype == torch.int64
    assert np.array_equal(test.images.numpy().reshape(4, -1), BATCHES["test_batch"][1])
    assert read_metadata(output)["names"] == [name.decode() for name in NAMES]
    assert list(output.parent.iterdir()) == [output]


def test_archive_must_be_the_official_one(tmp_path: Path, official: dict[str, bytes]) -> None:
    path = as_archive(tmp_path, official)
    read(tmp_path, sha256=sha256(path))
    with pytest.raises(UserError, match=f"found a file with SHA-256 {sha256(path)}.*{'0' * 64}"):
        read(tmp_path, sha256="0" * 64)
    assert path.exists()  # the user's own file is not ours to delete


def test_downloads_what_is_missing(tmp_path: Path, official: dict[str, bytes]) -> None:
    served = as_archive(tmp_path / "server", official)
    output = read(tmp_path, urls=(served.as_uri(),), sha256=sha256(served))
    assert len(read_dataset(output)[0]) == 20
    assert (tmp_path / "cifar10" / "cifar-10-python.tar.gz").exists()


def test_download_with_another_hash_is_removed(tmp_path: Path, official: dict[str, bytes]) -> None:
    served = as_archive(tmp_path / "server", official)
    with pytest.raises(UserError, match=f"{sha256(served)} \\(removed\\).*{'1' * 64}"):
        read(tmp_path, urls=(served.as_uri(),), sha256="1" * 64)
    assert not list((tmp_path / "cifar10").iterdir())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_same_dictionary_pickled_by_python_3(tmp_path: Path, protocol: int) -> None:
    data = np.arange(2 * 3072).astype(np.uint8).reshape(2, 3072)
    content = pickle.dumps({b"data": data, b"labels": [3, 7]}, protocol)
    images, labels = source.parse(tmp_path / "batch", content)
    assert np.array_equal(images.numpy().reshape(2, -1), data)
    assert labels.tolist() == [3, 7]


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("protocol", range(6))
def test_malicious_pickle_is_refused_and_not_executed(
    tmp_path: Path, official: dict[str, bytes], protocol: int
) -> None:
    marker = tmp_path / "executed"
    content = pickle.dumps({b"data": Malicious(marker)}, protocol)
    as_folder(tmp_path, official | {"data_batch_3": content})
    with pytest.raises(UserError, match=r"data_batch_3: .*it wants to call \w+\.open"):
        read(tmp_path)
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\x02Pid\n.",
    ],
)
def test_nothing_outside_the_list_can_be_named(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"(wants to call|refers to an outside object)"):
        source.unpickle(tmp_path / "batch", content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:-100], "cannot be read safely"),
        (lambda c: b"", "cannot be read safely"),
        (lambda c: pickle.dumps([1, 2]), "found a list"),
        (lambda c: python2_pickle({b"labels": python2_list([])}), "found no b'data'"),
        (lambda c: batch(1, kind=b"f4")[0], "another type than uint8"),
        (lambda c: python2_pickle({b"data": python2_string(b"x")}), "no attribute 'values'"),
    ],
)
def test_damaged_batches(
    tmp_path: Path, official: dict[str, bytes], change: Callable[[bytes], bytes], message: str
) -> None:
    content = change(official["data_batch_2"])
    as_folder(tmp_path, official | {"data_batch_2": content})
    with pytest.raises(UserError, match=f"data_batch_2: .*{message}"):
        read(tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "content",
    [
        # numpy's array from a buffer, of a number: bytes(number) would make that many.
        b"cnumpy._core.numeric\n_frombuffer\n(J\xff\xff\xff\x7fNNNtR.",
        # A long string, encoded over and over.
        b"(V" + b"x" * 100_000 + b"\np0\nl" + b"c_codecs\nencode\n(g0\nVlatin1\ntRa" * 3000 + b".",
    ],
    ids=["declared", "repeated"],
)
def test_memory_is_bounded_by_the_pickles_size(tmp_path: Path, content: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(UserError, match=r"found a (_Array|list)"):
        source.unpickle(tmp_path / "batch", content)
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def test_one_label_an_image(tmp_path: Path, official: dict[str, bytes]) -> None:
    data = np.zeros((3, 3072), np.uint8)
    content = python2_pickle(
        {b"data": python2_array(data), b"labels": python2_list([python2_integer(1)])}
    )
    as_folder(tmp_path, official | {"test_batch": content})
    with pytest.raises(UserError, match="found 1 labels for 3 images"):
        read(tmp_path)


def test_missing_batch(tmp_path: Path, official: dict[str, bytes]) -> None:
    del official["data_batch_4"]
    as_folder(tmp_path, official)
    with pytest.raises(UserError, match="found no data_batch_4"):
        read(tmp_path)


def test_command_line_ends_in_one_message(tmp_path: Path) -> None:
    output = tmp_path / "out.safetensors"
    command = [
        *(sys.executable, "-m", "flowquant", "dataset", "cifar10", "--output", str(output)),
        *("--data-root", str(tmp_path), "--source.folder", "cifar10"),
        *("--source.urls", "--source.sha256", "None"),
        *("--image.channels", "3", "--image.size", "32"),
        *("--condition.kind", "class", "--condition.count", "10"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PACKAGE.parent)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "cifar-10-python.tar.gz: found no such file" in done.stderr
    assert "Traceback" not in done.stderr
    assert not output.exists()
