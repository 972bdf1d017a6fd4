"""Whatever a stage writes, and wherever it cannot be written: one message, and nothing is left."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from flowquant.data.download import download
from flowquant.data.tensor_stream import stream_tensors
from flowquant.report.style import save
from flowquant.report.tables import write_table
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import write_json, write_text
from flowquant.runtime.tensors import write_tensors
from flowquant.sampling.samples import write_grid


def stream(path: Path) -> None:
    with stream_tensors(path, 100) as out:
        out.append("images", np.zeros((9, 3, 8, 8), np.uint8))
        out.finish({"labels": np.zeros(9, np.int64)}, {})


def fetch(path: Path) -> None:
    download((Path(__file__).as_uri(),), path)


PIXELS = torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8)
# All by which stages write, and the suffix of what they write.
WRITERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "text": (".md", lambda path: write_text(path, "x" * 500)),
    "json": (".json", lambda path: write_json(path, ["x" * 500])),
    "table": (".csv", lambda path: write_table(path, ["a"], [{"a": "x" * 500}])),
    "tensors": (".safetensors", lambda path: write_tensors(path, {"a": PIXELS}, {})),
    "streamed tensors": (".safetensors", stream),
    "samples": (".png", lambda path: write_grid(path, PIXELS, 3)),
    "figure": (".png", lambda path: save(Figure(), (path,), 50)),
    "drawing": (".svg", lambda path: save(Figure(), (path,), 50)),
    "download": (".bin", fetch),
}
PLACES = {
    "folder": "a folder",
    "pipe": "a pipe",
    "under a file": "a file where a folder should be",
    "long": "a name too long",
    "long parent": "a name too long",
    "small": "a file too large",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("writer", WRITERS)
def test_one_message_of_every_writer(writer: str, place: str, tmp_path: Path) -> None:
    suffix, write = WRITERS[writer]
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / "file").write_text("mine")
    os.mkfifo(tmp_path / f"pipe{suffix}")
    before = sorted(tmp_path.rglob("*"))
    path = {
        "under a file": tmp_path / f"file/out{suffix}",
        "long": tmp_path / f"{'x' * 300}{suffix}",
        "long parent": tmp_path / ("x" * 300) / f"out{suffix}",
    }.get(place, tmp_path / f"{place}{suffix}")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if place == "small":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(UserError) as error:
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(error.value).startswith(f"{path}: found {PLACES[place]}")
    assert sorted(tmp_path.rglob("*")) == before
