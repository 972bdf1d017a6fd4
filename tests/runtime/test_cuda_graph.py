"""Work that no CUDA graph holds is launched step by step; captures here are a CPU's pretence."""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import flowquant
from flowquant.config.refinement import RefineConfig
from flowquant.config.sampling import SolverConfig
from flowquant.data.dataset import Split
from flowquant.models.model import build_network
from flowquant.quantization.record import quantized_record
from flowquant.runtime import cuda_graph
from flowquant.runtime.cuda_graph import capture_if_possible
from flowquant.sampling.sampler import Sampler
from flowquant.training.flow_matching import Training
from flowquant.training.refine import ModuleRefinement
from tiny import TINY_MODEL, TRAINING

CPU = torch.device("cpu")
UNSUPPORTED = "CUDA error: operation not permitted when stream is capturing\nSearch for `cudaError"
INVALIDATED = "CUDA error: operation failed due to a previous error during capture"


class Stream:
    def __init__(self, device: int = 0, priority: int = 0) -> None:
        self.priority = priority

    def wait_stream(self, other: "Stream") -> None:
        pass


class Generator:
    """A GPU's, of which earlier versions of torch say that it is captured once a capture failed."""

    device = CPU

    def __init__(self) -> None:
        self.stuck = False

    def clone_state(self) -> "Generator":
        return Generator()

    def graphsafe_set_state(self, state: "Generator") -> None:
        self.stuck = state.stuck


class Capture(TorchDispatchMode):
    """Raises where a CPU would wait for the GPU, and once more in the end, as CUDA does."""

    def __init__(self, gpu: "Gpu", stream: Stream) -> None:
        super().__init__()
        self.gpu, self.stream, self.invalid = gpu, stream, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default):
            self.invalid = True
            raise torch.AcceleratorError(UNSUPPORTED)
        return func(*args, **(kwargs or {}))

    def __enter__(self) -> "Capture":
        self.gpu.current, self.gpu.capturing = self.stream, True
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.gpu.capturing = False
        if self.invalid:
            # The stream stays the capture's, as in earlier versions of torch.
            self.gpu.generator.stuck = True
            raise torch.AcceleratorError(INVALIDATED)
        self.gpu.current = self.gpu.default


class Gpu:
    def __init__(self) -> None:
        self.default = self.current = Stream()
        self.generator, self.capturing = Generator(), False
        self.reset: list[Graph] = []

    def stream(self, stream: Stream) -> Any:
        gpu = self

        class Within:
            def __enter__(self) -> None:
                self.before, gpu.current = gpu.current, stream

            def __exit__(self, *error: Any) -> None:
                gpu.current = self.before

        return Within()


class Graph:
    gpu: Gpu

    def reset(self) -> None:
        self.gpu.reset.append(self)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    gpu, rand = Gpu(), torch.rand

    def draw(*arguments: Any, **named: Any) -> Tensor:
        if gpu.generator.stuck:
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")
        return rand(*arguments, **named)

    monkeypatch.setattr(Graph, "gpu", gpu, raising=False)
    for name, pretence in {
        "Stream": Stream,
        "stream": gpu.stream,
        "current_stream": lambda: gpu.current,
        "current_device": lambda: 0,
        "default_generators": (gpu.generator,),
        "CUDAGraph": Graph,
        "graph": lambda graph, stream, capture_error_mode: Capture(gpu, stream),
    }.items():
        monkeypatch.setattr(torch.cuda, name, pretence)
    monkeypatch.setattr(torch, "rand", draw)
    cuda_graph._aside.cache_clear()
    yield gpu
    cuda_graph._aside.cache_clear()


def test_what_can_be_captured_leaves_no_trace(gpu: Gpu, capsys: pytest.CaptureFixture[str]) -> None:
    x = torch.ones(3)
    assert isinstance(capture_if_possible(lambda: x.mul_(2), lambda: [x]), Graph)
    assert x.tolist() == [1, 1, 1]
    assert (gpu.reset, gpu.current, capsys.readouterr().err) == ([], gpu.default, "")


def test_all_captures_take_one_stream(gpu: Gpu) -> None:
    """Of each cuBLAS may keep 32 MiB for ever; not that of now, where others may be under way.

    Its kernels go before those of streams beside it, whose priority is a larger number.
    """
    used: list[Stream] = []

    def work() -> None:
        used.append(gpu.current)

    def fails() -> None:
        work()
        raise torch.OutOfMemoryError

    capture_if_possible(work)
    with pytest.raises(torch.OutOfMemoryError):
        capture_if_possible(fails)
    capture_if_possible(work)
    assert len(used) == 2 * (cuda_graph.WARMUP_RUNS + 1) + 1
    assert len({id(stream) for stream in used}) == 1
    assert used[0] is not gpu.default
    assert used[0].priority < gpu.default.priority


def test_what_cannot_be_captured_leaves_no_trace_and_is_said_once(
    gpu: Gpu, capsys: pytest.CaptureFixture[str]
) -> None:
    x, made = torch.ones(3), dict[str, Tensor]()

    def work() -> None:
        made.setdefault("moment", torch.zeros(1)).add_(x.mul_(2).sum().item())

    assert capture_if_possible(work, lambda: [x, *made.values()]) is None
    assert (x.tolist(), made["moment"].item()) == ([1, 1, 1], 0)
    said = "no CUDA graph, so each kernel is launched by itself: " + UNSUPPORTED.partition("\n")[0]
    assert capsys.readouterr().err == said + "\n"
    assert gpu.current is gpu.default
    assert len(gpu.reset) == 1
    assert not gpu.generator.stuck
    torch.rand(1)


def test_what_cannot_be_captured_is_let_go_of(gpu: Gpu) -> None:
    alive: list[weakref.ref[Tensor]] = []

    def work() -> None:
        loss = torch.ones(3, requires_grad=True).sum()
        alive.append(weakref.ref(loss))
        loss.item()

    gc.collect()
    gc.disable()
    try:
        assert capture_if_possible(work) is None
        assert [reference() for reference in alive] == [None] * len(alive)
    finally:
        gc.enable()


@pytest.mark.parametrize("error", [KeyboardInterrupt, torch.OutOfMemoryError, RuntimeError])
def test_what_fails_of_itself_is_no_matter_of_captures(
    gpu: Gpu, capsys: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    def work() -> None:
        if error is RuntimeError:
            torch.ones(2) + torch.ones(3)
        if gpu.capturing:
            # The end of the capture fails, too.
            with pytest.raises(torch.AcceleratorError):
                torch.ones(1).item()
            raise error

    with pytest.raises(error) as found:
        capture_if_possible(work)
    assert found.type is error
    assert capsys.readouterr().err == ""
    assert gpu.current is gpu.default


def reading(network: nn.Module) -> nn.Module:
    """A network that looks at its output, which no capture holds."""
    network.register_forward_hook(lambda *args: args[2].sum().item() and None)
    return network


def sampled(launched: bool) -> list[Tensor]:
    network = reading(build_network(TINY_MODEL).eval())
    sampler = Sampler(network, TINY_MODEL.flow, SolverConfig(steps=3), CPU)
    sampler._launched = launched
    x = torch.randn(2, 1, 8, 8)
    return [sampler(x, torch.arange(2)) for _ in range(2)]


def trained(launched: bool) -> list[Tensor]:
    split = Split(torch.randint(256, (16, 1, 8, 8), dtype=torch.uint8), torch.arange(16) % 3)
    training = Training(TINY_MODEL, TRAINING, 0, CPU)
    reading(training.network)
    training._launched = launched
    losses = [training.step(split, torch.arange(16), 10).clone() for _ in range(3)]
    return [*losses, *training.network.state_dict().values()]


def refined(launched: bool) -> list[Tensor]:
    net = reading(nn.Linear(8, 8))
    small = flowquant.quantize(net, bits=1)
    config = RefineConfig(steps=3, batch=4)
    points = torch.randn(9, 8)
    job = ModuleRefinement(small, net, quantized_record(small), points, config, CPU)
    job._launched = launched
    for _ in range(3):
        job.step()
    return [*job.trainable.levels, *job.floats.values()]


@pytest.mark.parametrize("work", [sampled, trained, refined])
def test_a_network_that_reads_values_is_launched_step_by_step(
    gpu: Gpu, capsys: pytest.CaptureFixture[str], work: Callable[[bool], list[Tensor]]
) -> None:
    """To the bit as where nothing is captured, and said once."""
    found = []
    for launched in (True, False):
        torch.manual_seed(0)
        found.append(work(launched))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert capsys.readouterr().err.count("no CUDA graph") == 1
