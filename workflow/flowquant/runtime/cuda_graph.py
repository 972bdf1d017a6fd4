"""Work on a GPU captured once as a CUDA graph: each replay costs one launch."""

import sys
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# What is compiled or allocated at first use, and optimisers' moments, must be there before.
WARMUP_RUNS = 3


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
    """
    before = {id(tensor): (tensor, tensor.detach().clone()) for tensor in changed()}
    aside = torch.cuda.Stream()
    try:
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARMUP_RUNS):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        prepare(graph)
        # Other threads, such as NCCL's watchdog, may ask the GPU for events meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
    finally:
        with torch.no_grad():
            for tensor in changed():
                if id(tensor) in before:
                    tensor.copy_(before[id(tensor)][1])
                else:
                    tensor.zero_()
    return graph


def capture_if_possible(
    work: Callable[[], object], changed: Callable[[], Iterable[Tensor]] = lambda: ()
) -> torch.cuda.CUDAGraph | None:
    """As `capture`; nothing, and a word about it, where a network of others does what no graph can.

    Such are reading values and copying from the CPU.
    """
    try:
        return capture(work, changed)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        print(f"no CUDA graph, so each kernel is launched by itself: {reason}", file=sys.stderr)
        return None
