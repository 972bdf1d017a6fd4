"""CIFAR-10's official python archive; its pickles are read without executing anything."""

import io
import pickle
import zlib
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.config.sources import Cifar10Source
from flowquant.data.archive import Files, open_files
from flowquant.data.dataset import Split, check_fits, write_dataset
from flowquant.data.download import fetch
from flowquant.runtime.errors import UserError

ARCHIVE = "cifar-10-python.tar.gz"
FOLDER = "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
META = "batches.meta"
SHAPE = (3, 32, 32)
Values = np.ndarray[Any, np.dtype[np.uint8]]


def cifar10(
    output: Path,
    data_root: Path,
    source: Cifar10Source,
    image: ImageConfig,
    condition: ConditionConfig,
    threads: int = 1,
) -> None:
    """Read the five training batches and the test batch, and write the dataset.

    Args:
        output: The dataset file to write.
        data_root: Folder of all original data.
        source: Folder in it that holds `cifar-10-batches-py/`, which is taken as it is, or
            `cifar-10-python.tar.gz`; where to get that, and what it must be.
        image: What the images must be.
        condition: What the labels must be.
        threads: Not used: there is nothing to decode.

    Raises:
        UserError: if the data are missing, have another SHA-256, or hold anything but numbers,
            names and lists of them.
    """
    root = data_root / source.folder
    original = root / FOLDER
    if not original.is_dir():
        original = fetch(source.urls, root / ARCHIVE, source.sha256)
    with open_files(original, output) as files:
        contents = {name: _read(files, name) for name in (*TRAIN, TEST, META)}
    batches = {
        name: parse(original / name, content) for name, content in contents.items() if name != META
    }
    train = Split(
        torch.cat([batches[name][0] for name in TRAIN]),
        torch.cat([batches[name][1] for name in TRAIN]),
    )
    test = Split(*batches[TEST])
    for split in (train, test):
        check_fits(original, split, image, condition)
    names = class_names(original / META, contents[META])
    provenance = {"source": f"CIFAR-10, {original.name}", "names": names}
    write_dataset(output, train, test, image, condition, provenance)


def _read(files: Files, name: str) -> bytes:
    """The content of the file of this name, in whatever folder it lies."""
    for entry in files.entries:
        if PurePosixPath(entry.name).name == name:
            try:
                return entry.read()
            except (OSError, ValueError, zlib.error) as error:
                raise UserError(
                    files.path / entry.name,
                    found=f"an unreadable file ({error})",
                    expected="a whole one",
                    remedy="Take the official archive.",
                ) from error
    raise UserError(
        files.path,
        found=f"no {name}",
        expected=", ".join((*TRAIN, TEST, META)),
        remedy="Take the archive for Python (not Matlab or binary), whole.",
    )


class _Array:
    """Stands in for a pickled NumPy array: keeps its state and does nothing with it."""

    state: tuple[Any, ...] = ()

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, tuple) else ()

    def values(self) -> Values:
        """The array, if it is uint8 in C order; ValueError otherwise."""
        match self.state:
            case (
                _,
                tuple() as shape,
                _Type(name=b"u1" | "u1"),
                False | 0,
                bytes() | bytearray() as content,
            ):
                return np.frombuffer(content, np.uint8).reshape(shape)
        raise ValueError("an array of another type than uint8")


class _Type:
    """Stands in for a pickled NumPy type: keeps its name."""

    def __init__(self, name: Any = None, *_: Any) -> None:
        self.name = name

    def __setstate__(self, _: Any) -> None:
        pass


def _buffer_array(content: Any, kind: Any, shape: Any, order: Any) -> _Array:
    """Stands in for NumPy's array from a buffer, of pickles in protocol 5."""
    array = _Array()
    array.state = (1, shape, kind, order == "F", content)
    return array


# Cached, so that what a pickle repeats takes memory once.
@lru_cache
def _latin1(text: str, _: str) -> bytes:
    """Stands in for `codecs.encode`, by which Python 3 writes bytes in protocols 0 to 2."""
    return text.encode("latin-1")


class _PlainUnpickler(pickle.Unpickler):
    """Numbers, strings, lists, dictionaries and NumPy arrays; any other name is refused."""

    # Every name in a pickle is replaced by a stand-in of ours, so nothing that it names is called.
    STAND_INS = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
        # How Python 3 writes the same dictionary, in protocol 5 and in protocols 0 to 2.
        ("numpy._core.numeric", "_frombuffer"): _buffer_array,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self.STAND_INS:
            return self.STAND_INS[module, name]
        raise pickle.UnpicklingError(f"it wants to call {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"it refers to an outside object {pid!r}")


def unpickle(path: Path, content: bytes) -> dict[bytes, Any]:
    """A pickled dictionary of plain values, as Python 2 wrote it: its strings are bytes.

    Raises:
        UserError: if it is damaged, is no dictionary, or names anything to call.
    """
    try:
        loaded = _PlainUnpickler(io.BytesIO(content), encoding="bytes").load()
        if isinstance(loaded, dict):
            return loaded
        fault = f"a {type(loaded).__name__}"
    except Exception as error:  # a damaged pickle may raise anything
        fault = f"a pickle that cannot be read safely: {error or type(error).__name__}"
    raise UserError(
        path,
        found=fault,
        expected="a dictionary of numbers, names and uint8 arrays",
        remedy="Nothing in it was executed. Take the official archive.",
    )


def parse(path: Path, content: bytes) -> tuple[Tensor, Tensor]:
    """The images uint8 [N, 3, 32, 32] and classes int64 [N] of a batch file.

    Raises:
        UserError: if it holds anything else.
    """
    batch = unpickle(path, content)
    try:
        values = batch[b"data"].values()
        images = torch.from_numpy(values.reshape(-1, *SHAPE).copy())
        labels = batch[b"labels"]
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise ValueError("labels that are no list of numbers")
        if len(labels) != len(images):
            raise ValueError(f"{len(labels)} labels for {len(images)} images")
        return images, torch.tensor(labels, dtype=torch.int64)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        fault = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(
            path,
            found=fault,
            expected="data, uint8 of 3,072 values an image, and labels, one number an image",
            remedy="Take the official archive.",
        ) from error


def class_names(path: Path, content: bytes) -> list[str]:
    """The names of the classes, from the file batches.meta."""
    names = unpickle(path, content).get(b"label_names")
    if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
        raise UserError(
            path,
            found="no label_names",
            expected="a list of the classes' names",
            remedy="Take the official archive.",
        )
    return [name.decode("ascii", "replace") for name in names]
