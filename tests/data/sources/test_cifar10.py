"""CIFAR-10's archive in its exact form, and pickles that are not what they should be."""

import io
import pickle
import pickletools
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.data.dataset import read_dataset
from flowquant.data.sources import cifar10 as source
from flowquant.runtime.digest import PACKAGE
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import sha256
from flowquant.runtime.tensors import read_metadata

IMAGE, CONDITION = ImageConfig(channels=3, size=32), ConditionConfig(kind="class", count=10)
NAMES = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse"]
NAMES += [b"ship", b"truck"]


def python2_string(content):
    """The opcode with which Python 2 pickled a string; Python 3 has no way to write it."""
    if len(content) < 256:
        return b"U" + bytes([len(content)]) + content
    return b"T" + len(content).to_bytes(4, "little") + content


def python2_integer(value):
    return b"J" + value.to_bytes(4, "little", signed=True)


def python2_list(items):
    return b"](" + b"".join(items) + b"e"


def python2_array(values, kind=b"u1"):
    """As NumPy's `__reduce__` of the time: _reconstruct(ndarray, (0,), 'b') and its state."""
    shape = b"(" + b"".join(map(python2_integer, values.shape)) + b"t"
    dtype = b"cnumpy\ndtype\n(" + python2_string(kind) + b"K\x00K\x01tR"
    dtype += b"(K\x03" + python2_string(b"|") + b"NNN" + python2_integer(-1) * 2 + b"K\x00tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t"
    made += python2_string(b"b") + b"tR"
    state = b"(K\x01" + shape + dtype + b"\x89" + python2_string(values.tobytes()) + b"tb"
    return made + state


def python2_pickle(items):
    """A dictionary in protocol 2, keys as byte strings."""
    body = b"".join(python2_string(key) + value for key, value in items.items())
    return b"\x80\x02}(" + body + b"u."


def batch(seed, count=4, kind=b"u1"):
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


@pytest.fixture
def official():
    """Name → (content, data, labels) of the seven files."""
    files = {f"data_batch_{n}": batch(n) for n in range(1, 6)} | {"test_batch": batch(6)}
    meta = python2_pickle(
        {
            b"num_cases_per_batch": python2_integer(4),
            b"label_names": python2_list(map(python2_string, NAMES)),
            b"num_vis": python2_integer(3072),
        }
    )
    return files | {"batches.meta": (meta, None, None)}


def as_folder(root, files):
    folder = root / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "readme.html").write_text("<a>CIFAR-10</a>")
    for name, (content, *_) in files.items():
        (folder / name).write_bytes(content)


def as_archive(root, files):
    (root / "cifar10").mkdir(parents=True)
    path = root / "cifar10" / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, (content, *_) in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def read(root, **settings):
    output = root / "out" / "cifar10.safetensors"
    source.cifar10(output, root, IMAGE, CONDITION, "cifar10", **settings)
    return output


def test_these_pickles_are_python_2s(official):
    content, data, _ = official["data_batch_1"]
    opcodes = {opcode.name for opcode, *_ in pickletools.genops(content)}
    assert {"SHORT_BINSTRING", "BINSTRING", "GLOBAL", "REDUCE", "BUILD"} <= opcodes
    plain = pickle.loads(content, encoding="bytes")
    assert np.array_equal(plain[b"data"], data)


@pytest.mark.parametrize("write", [as_folder, as_archive])
def test_reads_the_official_files(tmp_path, official, write):
    write(tmp_path, official)
    output = read(tmp_path)
    train, test = read_dataset(output)
    pixels = np.concatenate([official[name][1] for name in source.TRAIN]).reshape(-1, 3, 32, 32)
    labels = [label for name in source.TRAIN for label in official[name][2]]
    assert np.array_equal(train.images.numpy(), pixels)
    assert train.labels.tolist() == labels
    assert train.labels.dtype == torch.int64
    assert np.array_equal(test.images.numpy().reshape(4, -1), official["test_batch"][1])
    assert read_metadata(output)["names"] == [name.decode() for name in NAMES]
    assert list(output.parent.iterdir()) == [output]


def test_archive_must_be_the_official_one(tmp_path, official):
    path = as_archive(tmp_path, official)
    read(tmp_path, sha256=sha256(path))
    with pytest.raises(UserError, match=f"found a file with SHA-256 {sha256(path)}.*{'0' * 64}"):
        read(tmp_path, sha256="0" * 64)
    assert path.exists()  # the user's own file is not ours to delete


def test_downloads_what_is_missing(tmp_path, official):
    served = as_archive(tmp_path / "server", official)
    output = read(tmp_path, urls=(served.as_uri(),), sha256=sha256(served))
    assert len(read_dataset(output)[0]) == 20
    assert (tmp_path / "cifar10" / "cifar-10-python.tar.gz").exists()


def test_download_with_another_hash_is_removed(tmp_path, official):
    served = as_archive(tmp_path / "server", official)
    with pytest.raises(UserError, match=f"{sha256(served)} \\(removed\\).*{'1' * 64}"):
        read(tmp_path, urls=(served.as_uri(),), sha256="1" * 64)
    assert not list((tmp_path / "cifar10").iterdir())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("protocol", range(6))
def test_same_dictionary_pickled_by_python_3(tmp_path, protocol):
    data = np.arange(2 * 3072).astype(np.uint8).reshape(2, 3072)
    content = pickle.dumps({b"data": data, b"labels": [3, 7]}, protocol)
    images, labels = source.parse(tmp_path / "batch", content)
    assert np.array_equal(images.numpy().reshape(2, -1), data)
    assert labels.tolist() == [3, 7]


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


@pytest.mark.parametrize("protocol", range(6))
def test_malicious_pickle_is_refused_and_not_executed(tmp_path, official, protocol):
    marker = tmp_path / "executed"
    content = pickle.dumps({b"data": Malicious(marker)}, protocol)
    as_folder(tmp_path, official | {"data_batch_3": (content,)})
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
def test_nothing_outside_the_list_can_be_named(tmp_path, content):
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
def test_damaged_batches(tmp_path, official, change, message):
    content = change(official["data_batch_2"][0])
    as_folder(tmp_path, official | {"data_batch_2": (content,)})
    with pytest.raises(UserError, match=f"data_batch_2: .*{message}"):
        read(tmp_path)
    assert not (tmp_path / "out").exists()


def test_one_label_an_image(tmp_path, official):
    data = np.zeros((3, 3072), np.uint8)
    content = python2_pickle(
        {b"data": python2_array(data), b"labels": python2_list([python2_integer(1)])}
    )
    as_folder(tmp_path, official | {"test_batch": (content,)})
    with pytest.raises(UserError, match="found 1 labels for 3 images"):
        read(tmp_path)


def test_missing_batch(tmp_path, official):
    del official["data_batch_4"]
    as_folder(tmp_path, official)
    with pytest.raises(UserError, match="found no data_batch_4"):
        read(tmp_path)


def test_command_line_ends_in_one_message(tmp_path):
    command = [sys.executable, "-m", "flowquant", "dataset", "cifar10", "--folder", "cifar10"]
    command += ["--output", tmp_path / "out.safetensors", "--data-root", tmp_path, "--urls"]
    command += ["--image.channels", "3", "--image.size", "32", "--sha256", "None"]
    command += ["--condition.kind", "class", "--condition.count", "10"]
    done = subprocess.run(
        [str(part) for part in command],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "cifar-10-python.tar.gz: found no such file" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.safetensors").exists()
