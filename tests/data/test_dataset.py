"""Dataset files: written as they come, read as memory maps, moved only where there is room."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.data.dataset import Split, place, read_dataset, read_validation, write_dataset
from flowquant.data.tensor_stream import stream_tensors
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import read_metadata


def rows(start: int, stop: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.arange(start * 7, stop * 7, dtype=np.int64).astype(np.uint8).reshape(-1, 7)


def test_streamed_file_is_plain_safetensors(tmp_path: Path) -> None:
    """Odd numbers of bytes before and between, fewer labels than announced."""
    path = tmp_path / "file.safetensors"
    with stream_tensors(path, small_bytes=101 * 8) as stream:
        stream.append("a", rows(0, 3))
        stream.append("a", rows(3, 5))
        stream.append("b", rows(5, 6))
        small = {"x": np.arange(5), "y": np.arange(5, 6)}
        stream.finish(small, {"names": ["ä", '"'], "skipped": 2})
    tensors = load_file(path)
    assert {name: tuple(t.shape) for name, t in tensors.items()} == {
        "a": (5, 7),
        "b": (1, 7),
        "x": (5,),
        "y": (1,),
    }
    assert np.array_equal(tensors["a"].numpy(), rows(0, 5))
    assert np.array_equal(tensors["b"].numpy(), rows(5, 6))
    assert tensors["x"].tolist() == [0, 1, 2, 3, 4]
    assert tensors["y"].tolist() == [5]
    assert read_metadata(path) == {"names": ["ä", '"'], "skipped": 2}


def test_streamed_tensors_come_one_after_another(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="a is complete"),
        stream_tensors(tmp_path / "file.safetensors", 8) as stream,
    ):
        for name in "aba":
            stream.append(name, rows(0, 1))
    assert not list(tmp_path.iterdir())


def test_reading_is_a_memory_map(tmp_path: Path) -> None:
    """Two gigabytes, most of them a hole in the file, in little memory."""
    path = tmp_path / "large.safetensors"
    count = 170_000
    with stream_tensors(path, 2 * 8 * count) as stream:
        stream.append("train_images", np.zeros((1, 3, 64, 64), np.uint8))
        stream._file.seek((count - 2) * 3 * 64 * 64, 1)
        stream.append("train_images", np.ones((1, 3, 64, 64), np.uint8))
        stream._shapes["train_images"][0] = count
        stream.append("test_images", np.zeros((1, 3, 64, 64), np.uint8))
        labels = {"train_labels": np.zeros(count, np.int64), "test_labels": np.zeros(1, np.int64)}
        stream.finish(labels, {})
    assert path.stat().st_size > 2e9
    before = resident()
    train, _ = read_dataset(path)
    assert (train.images[-1] == 1).all()
    assert int(train.labels.max()) == 0
    assert resident() - before < 50_000_000


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_no_validation_split(tmp_path: Path) -> None:
    train, test = (
        Split(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.arange(4)) for _ in range(2)
    )
    path = tmp_path / "data.safetensors"
    write_dataset(
        path,
        train,
        test,
        image=ImageConfig(channels=1, size=4),
        condition=ConditionConfig(kind="class", count=4),
        provenance={},
    )
    assert read_validation(path) is None
    assert read_dataset(path)[1].labels.tolist() == [0, 1, 2, 3]


def test_labels_out_of_range(tmp_path: Path) -> None:
    split = Split(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.arange(4))
    path = tmp_path / "data.safetensors"
    with pytest.raises(UserError, match="found labels from 0 to 3; expected 3 class"):
        write_dataset(
            path,
            split,
            split,
            image=ImageConfig(channels=1, size=4),
            condition=ConditionConfig(kind="class", count=3),
            provenance={},
        )
    assert not path.exists()


def test_on_a_cpu_the_map_stays_a_map() -> None:
    split = Split(torch.zeros(4, 1, 4, 4, dtype=torch.uint8), torch.arange(4))
    assert place(split, torch.device("cpu")) is split
