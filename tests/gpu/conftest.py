"""Tests that need a GPU: `make test-gpu`. Elsewhere each is skipped, and says why."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            # Libraries warn of what they will do one day; which they are depends on the machine.
            item.add_marker(pytest.mark.filterwarnings("default"))
            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="PyTorch sees no GPU here"))


def pytest_report_header() -> list[str]:
    """What the tests ran on, for those who read their output later."""
    try:
        triton = version("triton")
    except PackageNotFoundError:
        triton = "none"
    found = [
        f"python {platform.python_version()}, torch {torch.__version__}, triton {triton}, "
        f"CUDA {torch.version.cuda}"
    ]
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        found.append(
            f"{gpu.name}, capability {gpu.major}.{gpu.minor}, "
            f"{gpu.total_memory / 2**30:.0f} GiB, {gpu.multi_processor_count} multiprocessors"
        )
    return found


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())
