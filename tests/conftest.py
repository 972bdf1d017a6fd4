"""What tests share: small configurations, real data where it is at hand."""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Kernels run in Triton's interpreter where there is no GPU. Read when Triton is first imported, by
# whichever test comes first.
if not Path("/dev/nvidia0").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")
# Tests start hundreds of processes: as for a user, Python keeps what it has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Networks this small are computed several times faster by one thread than by two that wait.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from flowquant.config.model import ModelConfig
from flowquant.data.dataset import Split, write_dataset
from project import SHARED_DATA
from tiny import TINY_MODEL

# A shell that runs something in the background has it ignore this, and all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--fix``: write what is generated, in place of saying that it is stale."""
    parser.addoption("--fix", action="store_true", help="write the generated files")


@pytest.fixture
def tiny_model() -> ModelConfig:
    """A small network for grey 8×8 images of three classes."""
    return TINY_MODEL


@pytest.fixture
def e4m3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's interpreter rounds to e4m3 as a GPU does."""
    import interpreter

    interpreter.round_to_e4m3(monkeypatch)


@pytest.fixture
def data(tmp_path: Path, tiny_model: ModelConfig) -> Path:
    """A hundred images: a bright square at a place that tells the class."""
    labels = torch.arange(100) % 3
    images = torch.zeros(100, 1, 8, 8, dtype=torch.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, 2 * label : 2 * label + 3] = 255
    split, test = Split(images, labels), Split(images[:9].clone(), labels[:9].clone())
    path = tmp_path / "data.safetensors"
    write_dataset(
        path, split, test, image=tiny_model.image, condition=tiny_model.condition, provenance={}
    )
    return path


@pytest.fixture
def shared_data() -> Path:
    """The folder of real datasets; skips where a user has none, but never in CI."""
    if not SHARED_DATA.is_dir():
        message = f"no real datasets in {SHARED_DATA}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return SHARED_DATA
