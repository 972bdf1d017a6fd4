"""Every process with this folder in PYTHONPATH sees GPUs, whose work CPUs do.

There are as many as GPUS says; of these CUDA_VISIBLE_DEVICES may name some, by number. Jobs that
are to compute at the same time wait for each other once they have theirs: MEETING is a folder.

Python imports a module of this name by itself before it runs anything.
"""

import ctypes
import importlib.abc
import importlib.machinery
import os
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

# How many jobs of these stages compute at once.
TOGETHER = {("train", "classifier"): 2, ("sample",): 3}
PATIENCE = 240


def visible() -> list[str]:
    named = os.environ.get(
        "CUDA_VISIBLE_DEVICES", ",".join(map(str, range(int(os.environ["GPUS"]))))
    )
    return [f"GPU-{number}" for number in named.split(",") if number]


class Driver:
    """Of CUDA, as far as it is asked for the number of GPUs."""

    def cuInit(self, flags: int) -> int:
        return 0

    def cuDeviceGetCount(self, number: Any) -> int:
        number._obj.value = len(visible())
        return 0


class Library(ctypes.CDLL):
    def __new__(cls, name: str | None, *arguments: Any, **named: Any) -> Any:
        return Driver() if name == "libcuda.so.1" else super().__new__(cls)


def meet(stage: str) -> None:
    for stages, count in TOGETHER.items():
        if stage in stages:
            place = Path(os.environ["MEETING"], stages[0])
            place.mkdir(exist_ok=True)
            (place / str(os.getpid())).touch()
            for _ in range(PATIENCE * 10):
                if len(list(place.iterdir())) >= count:
                    return
                time.sleep(0.1)
            sys.exit(f"{stage} is alone on {visible()}")


class Loader(importlib.machinery.SourceFileLoader):
    """Of `flowquant.runtime.device`, which then finds these GPUs, and CPUs in their place."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        choose: Any = module.__dict__["choose_devices"]
        torch: Any = module.__dict__["torch"]

        def choose_devices(name: str, count: int, key: str) -> list[Any]:
            cuda: dict[str, Any] = {
                "is_available": lambda: True,
                "device_count": lambda: len(visible()),
                "set_device": lambda device: None,
                "get_device_name": lambda device: "stand-in",
                "get_device_properties": lambda i: SimpleNamespace(uuid=visible()[i]),
            }
            with mock.patch.multiple(torch.cuda, **cuda):
                found = choose(name, count, key)
            if found[0].type == "cuda":
                meet(sys.argv[1])
            return [torch.device("cpu")] * len(found)

        module.__dict__["choose_devices"] = choose_devices


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != "flowquant.runtime.device":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        assert spec is not None
        assert spec.origin is not None
        spec.loader = Loader(name, spec.origin)
        return spec


ctypes.CDLL = Library  # type: ignore[misc]
sys.meta_path.insert(0, Finder())
