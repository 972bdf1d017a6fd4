"""Where a stage computes, and what an old GPU computes in."""

import pytest
import torch

from flowquant.device import compute_dtype


@pytest.fixture
def gpu(monkeypatch):
    """A CUDA device of a chosen compute capability, so to speak; the precision put back after."""
    before = torch.get_float32_matmul_precision()

    def of(capability):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
        return torch.device("cuda")

    yield of
    torch.set_float32_matmul_precision(before)


def test_a_gpu_too_old_for_bfloat16_computes_in_float32_and_says_so(gpu, capsys):
    assert compute_dtype(gpu((7, 5)), "bfloat16") == torch.float32
    assert capsys.readouterr().err == "Tesla T4 has no bfloat16: computing in float32\n"
    assert torch.get_float32_matmul_precision() == "high"


def test_a_newer_gpu_computes_as_configured(gpu, capsys):
    assert compute_dtype(gpu((8, 0)), "bfloat16") == torch.bfloat16
    for precision, products in (("float32", "highest"), ("tf32", "high")):
        assert compute_dtype(gpu((8, 0)), precision) == torch.float32
        assert torch.get_float32_matmul_precision() == products
    assert capsys.readouterr().err == ""


def test_cpus_compute_in_float32():
    assert compute_dtype(torch.device("cpu"), "bfloat16") == torch.float32
