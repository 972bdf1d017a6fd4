"""Where a stage computes, and what an old GPU computes in."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import IO, get_args

import pytest
import torch

from flowquant.report.timeline import read_timeline
from flowquant.runtime import claims, timeline
from flowquant.runtime.device import choose_devices, compute_dtype, sampling_dtype
from flowquant.runtime.errors import UserError
from flowquant.runtime.names import Precision, SamplingPrecision

CPU = torch.device("cpu")
Gpu = Callable[[tuple[int, int]], torch.device]


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


def test_cpus_train_in_float32() -> None:
    assert compute_dtype(CPU, "bfloat16") == torch.float32


@pytest.mark.parametrize("capable", [True, False])
def test_a_cpu_samples_as_it_is_asked_if_it_can(
    capable: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("flowquant.runtime.device.multiplies_bfloat16", lambda: capable)
    for precision in get_args(SamplingPrecision):
        half = capable and precision in ("bfloat16", "fp8")
        assert sampling_dtype(CPU, precision) == (torch.bfloat16 if half else torch.float32)
    said = capsys.readouterr().err.splitlines()
    if capable:
        assert said == ["this CPU has no fp8: computing in bfloat16"]
    else:
        kinds = ("bfloat16", "fp8")
        assert said == [f"this CPU has no {kind}: computing in float32" for kind in kinds]


def test_gpus_sample_in_bfloat16_by_default(gpu: Gpu) -> None:
    assert sampling_dtype(gpu((8, 0)), "auto") == torch.bfloat16


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Three GPUs, so to speak."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=f"GPU-{index}")
    )
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    held: dict[str, IO[str]] = {}
    monkeypatch.setattr(claims, "_held", held)
    yield
    for file in held.values():
        file.close()


@pytest.mark.usefixtures("gpus")
def test_more_devices_than_there_are() -> None:
    with pytest.raises(UserError, match=r"training.devices: found 4, but PyTorch sees 3 GPUs here"):
        choose_devices("auto", 4, "training.devices")
    assert choose_devices("cuda", 2, "x") == [torch.device("cuda", i) for i in range(2)]


@pytest.mark.usefixtures("gpus")
def test_a_run_notes_who_has_which_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "devices.jsonl"
    monkeypatch.setenv(timeline.FILE, str(path))
    monkeypatch.setattr("sys.argv", ["flowquant", "train", "--output=model.safetensors"])
    ends: list[Callable[[], None]] = []
    monkeypatch.setattr("atexit.register", ends.append)
    choose_devices("cuda", 2, "x")
    choose_devices("cpu", 2, "x")
    (span, other), (cpu,) = [read_timeline(path)[i:j] for i, j in ((1, 3), (0, 1))]
    assert (span.device, other.device, span.kind) == ("cuda:0", "cuda:1", "Tesla T4")
    assert (span.stage, span.output) == ("train", "model.safetensors")
    # Of a process that is killed, the end is not known.
    assert span.started <= span.claimed
    assert span.ended is cpu.ended is None
    ends[0]()
    assert all(span.ended is not None for span in read_timeline(path))
