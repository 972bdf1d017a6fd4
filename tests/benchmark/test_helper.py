"""The part of the benchmark that samples, in a process of its own."""

import os

import pytest
import torch

from flowquant.benchmark import sampling
from flowquant.benchmark.bench import Bench
from flowquant.config.sampling import SolverConfig
from tiny import TINY_MODEL

WORKSPACES = {"CUBLAS_WORKSPACE_CONFIG": ":0:0", "CUBLASLT_WORKSPACE_SIZE": "0"}


class Enough(Exception):
    pass


def test_what_a_helper_sets_before_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Triton's kernels are for the current device, which a new process has to choose."""
    for name in WORKSPACES:
        monkeypatch.setenv(name, "to be put back")
        monkeypatch.delenv(name)
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)

    def compute(*_: object) -> None:
        assert chosen == [bench.device]
        assert WORKSPACES.items() <= os.environ.items()
        raise Enough

    monkeypatch.setattr(sampling, "_together", compute)
    bench = Bench(TINY_MODEL, torch.device("cuda", 1), 0, 1.0, {"tflops": 1.0})
    with pytest.raises(Enough):
        sampling._by_itself(bench, SolverConfig(steps=1), 4, 4, baseline=None)  # type: ignore[arg-type]


def test_weights_are_the_same_each_time() -> None:
    bench = Bench(TINY_MODEL, torch.device("cpu"), 0, 1.0, {"tflops": 1.0})
    first, second = bench.weights(), bench.weights()
    assert all(second[name].equal(tensor) for name, tensor in first.items())
