"""Where a stage computes, and what an old GPU computes in."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import pytest
import torch

from flowquant.runtime import device as devices
from flowquant.runtime.device import choose_devices, compute_dtype
from flowquant.runtime.errors import UserError
from flowquant.runtime.names import Precision

Gpu = Callable[[tuple[int, int]], torch.device]
Held = dict[int, IO[bytes]]
NewProcess = Callable[[], Held]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """A CUDA device of a chosen compute capability, so to speak; the precision put back after."""
    before = torch.get_float32_matmul_precision()

    def of(capability: tuple[int, int]) -> torch.device:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
        return torch.device("cuda")

    yield of
    torch.set_float32_matmul_precision(before)


def test_a_gpu_too_old_for_bfloat16_computes_in_float32_and_says_so(
    gpu: Gpu, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compute_dtype(gpu((7, 5)), "bfloat16") == torch.float32
    assert capsys.readouterr().err == "Tesla T4 has no bfloat16: computing in float32\n"
    assert torch.get_float32_matmul_precision() == "high"


def test_a_newer_gpu_computes_as_configured(gpu: Gpu, capsys: pytest.CaptureFixture[str]) -> None:
    assert compute_dtype(gpu((8, 0)), "bfloat16") == torch.bfloat16
    expected: tuple[tuple[Precision, str], ...] = (("float32", "highest"), ("tf32", "high"))
    for precision, products in expected:
        assert compute_dtype(gpu((8, 0)), precision) == torch.float32
        assert torch.get_float32_matmul_precision() == products
    assert capsys.readouterr().err == ""


def test_cpus_compute_in_float32() -> None:
    assert compute_dtype(torch.device("cpu"), "bfloat16") == torch.float32


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[NewProcess]:
    """Three GPUs, so to speak; a call begins another process's claims."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"GPU-{index}")
    )
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    processes: list[Held] = []

    def another_process() -> Held:
        processes.append({})
        monkeypatch.setattr(devices, "_held", processes[-1])
        return processes[-1]

    another_process()
    yield another_process
    for file in (file for held in processes for file in held.values()):
        file.close()


def test_jobs_side_by_side_take_gpus_of_their_own(gpus: NewProcess) -> None:
    first = gpus()
    assert devices.claim(1) == devices.claim(1) == [0]  # a job keeps what it has
    gpus()
    assert devices.claim(2) == [1, 2]
    gpus()
    assert devices.claim(1)[0] in range(3)  # all are claimed: any will do
    first[0].close()  # the first process ends
    assert devices.claim(1) == [0]


def test_more_devices_than_there_are(gpus: NewProcess) -> None:
    with pytest.raises(UserError, match=r"training.devices: found 4, but PyTorch sees 3 GPUs here"):
        choose_devices("auto", 4, "training.devices")
    assert choose_devices("cuda", 2, "x") == [torch.device("cuda", i) for i in range(2)]
