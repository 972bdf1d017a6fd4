"""The devices that one job computes on together: a process for each."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from flowquant.runtime import random
from flowquant.runtime.processes import helpers


@dataclass(frozen=True)
class Group:
    """This process's place among those that compute together."""

    rank: int = 0
    size: int = 1

    def share(self, whole: Tensor) -> Tensor:
        """This process's rows of a batch whose length the number of processes divides."""
        rows = len(whole) // self.size
        return whole[self.rank * rows : (self.rank + 1) * rows]

    def mean_(self, values: Tensor) -> None:
        """Replace values by their mean over the processes; a CUDA graph can hold it."""
        if self.size > 1:
            dist.all_reduce(values)
            values.div_(self.size)


@contextmanager
def together(
    devices: Sequence[torch.device], follow: Callable[..., None], *arguments: object
) -> Iterator[Group]:
    """Compute on several devices: on the first in this block, on each other one in a helper.

    Devices are all CUDA or all CPU; CPU processes share the threads. Each helper calls ``follow``,
    a module's function, as ``follow(group, device, *arguments)``, the arguments pickled; it is to
    call `Group.mean_` as often as the block.
    """
    if len(devices) == 1:
        yield Group()
        return
    store = _store(0, first=True)
    ranks = range(1, len(devices))
    threads = torch.get_num_threads()
    with helpers(_help, [(store.port, rank, devices, follow, arguments) for rank in ranks]):
        _enter(store, 0, devices)
        yield Group(0, len(devices))
        dist.destroy_process_group()
        torch.set_num_threads(threads)


def _help(
    port: int,
    rank: int,
    devices: Sequence[torch.device],
    follow: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    _enter(_store(port, first=False), rank, devices)
    follow(Group(rank, len(devices)), devices[rank], *arguments)
    dist.destroy_process_group()


def _store(port: int, first: bool) -> Any:
    """Where processes find each other: the first one's, on any free port (0)."""
    return dist.TCPStore(  # type: ignore[attr-defined]
        "127.0.0.1", port, is_master=first, wait_for_workers=False
    )


def _enter(store: Any, rank: int, devices: Sequence[torch.device]) -> None:
    device, size = devices[rank], len(devices)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", store=store, rank=rank, world_size=size, device_id=device)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // size))
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size)


class Draws:
    """Random numbers for a batch: drawn for the whole of it, of which this process takes its share.

    The whole batch's numbers are the same on any number of devices. Dropout, which draws by
    torch's own generators, is each device's own.
    """

    def __init__(self, group: Group, device: torch.device) -> None:
        self.group, self.device = group, device
        self.generator = None if group.size == 1 else torch.Generator(device)

    def start(self, seed: int, purpose: str, index: int) -> None:
        """Begin the numbers of (seed, purpose, index)."""
        if self.generator is None:
            torch.manual_seed(random.key(seed, purpose, index))
        else:
            self.generator.manual_seed(random.key(seed, purpose, index))
            torch.manual_seed(random.key(seed, f"{purpose} on device {self.group.rank}", index))

    def uniform(self, count: int) -> Tensor:
        """Uniform in 0…1 for this process's ``count`` rows, float32 [count]."""
        whole = count * self.group.size
        return self.group.share(torch.rand(whole, device=self.device, generator=self.generator))

    def normal(self, shape: torch.Size) -> Tensor:
        """Standard normal for this process's rows, float32 [*shape]."""
        whole = (shape[0] * self.group.size, *shape[1:])
        return self.group.share(torch.randn(whole, device=self.device, generator=self.generator))

    def kept(self, count: int, condition_dropout: float) -> Tensor | None:
        """1 for rows that keep their condition, else 0, float32 [count]; None: all keep it."""
        return (self.uniform(count) >= condition_dropout).float() if condition_dropout > 0 else None

    def serve(self, graph: torch.cuda.CUDAGraph) -> None:
        """Let a graph draw: before its capture."""
        if self.generator is not None:
            graph.register_generator_state(self.generator)
