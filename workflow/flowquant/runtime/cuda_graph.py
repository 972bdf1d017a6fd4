"""Work on a GPU captured once as a CUDA graph: each replay costs one launch."""

import sys
from collections.abc import Callable, Iterable
from functools import cache

import torch
from torch import Tensor

# What is compiled or allocated at first use, and optimisers' moments, must be there before.
WARMUP_RUNS = 3


@cache
def _aside(device: int) -> torch.cuda.Stream:
    """The stream that all warm-ups and captures of a device run on.

    For every stream that products ran on, versions of torch keep a workspace of cuBLAS, up to
    32 MiB, for ever: were there a stream for each capture, every retry would find less memory.
    Its work goes first, before what it forks to be ready later.
    """
    return torch.cuda.Stream(device, priority=-1)


class UncapturableError(RuntimeError):
    """Work does what no CUDA graph can hold; says what, in CUDA's words."""


def capture(
    work: Callable[[], object],
    changed: Callable[[], Iterable[Tensor]] = lambda: (),
    prepare: Callable[[torch.cuda.CUDAGraph], object] = lambda graph: None,
) -> torch.cuda.CUDAGraph:
    """A graph of what ``work`` launches; its warm-up runs leave no trace.

    ``work`` works in place, on tensors that stay where they are for as long as the graph is used.
    ``changed`` gives those that it starts from and changes, before and after the warm-up: what they
    held is put back, and those that the warm-up made are zeroed. ``prepare`` is called on the graph
    before the capture.

    Raises:
        UncapturableError: if ``work`` runs but cannot be captured; then, too, no trace is left.
    """
    before = {id(tensor): (tensor, tensor.detach().clone()) for tensor in changed()}
    aside = _aside(torch.cuda.current_device())
    try:
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARMUP_RUNS):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        prepare(graph)
        _record(graph, work, aside)
    finally:
        with torch.no_grad():
            for tensor in changed():
                if id(tensor) in before:
                    tensor.copy_(before[id(tensor)][1])
                else:
                    tensor.zero_()
    return graph


def _record(
    graph: torch.cuda.CUDAGraph, work: Callable[[], object], aside: torch.cuda.Stream
) -> None:
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    state = generator.clone_state()
    failure: BaseException | None = None
    try:
        # The stream of now is that of afterwards, also where a capture fails: earlier versions of
        # torch leave theirs. Other threads, such as NCCL's watchdog, may ask the GPU for events
        # meanwhile.
        with (
            torch.cuda.stream(torch.cuda.current_stream()),
            torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"),
        ):
            try:
                work()
            except BaseException as error:
                # Ending a capture in which something failed raises once more, and says less.
                failure = error
                raise
    except RuntimeError as error:
        failure = failure or error
        graph.reset()
        try:
            torch.rand((), device=generator.device)
        except RuntimeError:
            # Earlier versions go on to take the generator for one that is captured.
            generator.graphsafe_set_state(state)
        if isinstance(failure, torch.OutOfMemoryError) or not isinstance(failure, RuntimeError):
            raise failure from None
        raise UncapturableError(str(failure).partition("\n")[0]) from failure
    finally:
        # Its traceback holds this frame: a cycle, in which the work's tensors would live on, and
        # autograd would warn of gradients that belong to another stream.
        failure = None


def capture_if_possible(
    work: Callable[[], object],
    changed: Callable[[], Iterable[Tensor]] = lambda: (),
    prepare: Callable[[torch.cuda.CUDAGraph], object] = lambda graph: None,
) -> torch.cuda.CUDAGraph | None:
    """As `capture`; nothing, and a word about it, where a network of others does what no graph can.

    Such are reading values and copying from the CPU.
    """
    try:
        return capture(work, changed, prepare)
    except UncapturableError as error:
        print(f"no CUDA graph, so each kernel is launched by itself: {error}", file=sys.stderr)
        return None
