"""Where a stage computes, and in which precision."""

import os
import sys
from functools import cache
from importlib.util import find_spec

import torch

from flowquant.runtime import timeline
from flowquant.runtime.claims import claim
from flowquant.runtime.errors import UserError
from flowquant.runtime.names import DeviceName, SamplingPrecision

# Computed in bfloat16, but for what is in FP8.
HALVES = ("bfloat16", "fp8")


def choose_device(name: DeviceName) -> torch.device:
    """The device to compute on: ``auto`` takes a GPU where there is one.

    Raises:
        UserError: if a GPU is demanded and there is none.
    """
    return choose_devices(name, 1, "device")[0]


def choose_devices(name: DeviceName, count: int, key: str) -> list[torch.device]:
    """``count`` devices to compute on, GPUs for this process alone where it has a choice of them.

    It keeps them until it ends, and waits for them if it must (`claim`). A CPU is as many devices
    as are asked for.

    Raises:
        UserError: if a GPU is demanded and there is none, or there are fewer than the
            configuration key ``key`` asks for.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        timeline.note(["cpu"], "CPU")
        return [torch.device("cpu")] * count
    if not torch.cuda.is_available():
        raise UserError(
            "device",
            found="'cuda', but PyTorch sees no GPU here",
            expected="a CUDA device",
            remedy="Set `device: auto` or `device: cpu` in the configuration, or run on a node "
            "with a GPU and a CUDA build of PyTorch.",
        )
    visible = torch.cuda.device_count()
    if count > visible:
        raise UserError(
            key,
            found=f"{count}, but PyTorch sees {visible} GPU{'s' if visible > 1 else ''} here",
            expected=f"at most {visible}",
            remedy=f"Set `{key}` to what a node has, or ask for a larger node.",
        )
    gpus = [str(torch.cuda.get_device_properties(index).uuid) for index in range(visible)]
    devices = [torch.device("cuda", index) for index in claim(gpus, count)]
    make_current(devices[0])
    timeline.note([str(device) for device in devices], torch.cuda.get_device_name(devices[0]))
    return devices


def make_current(device: torch.device) -> None:
    """Let what names no device, streams and kernels, mean this one, if it is a GPU."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def memory_bytes(device: torch.device) -> int:
    """All memory that a device has, in use or not."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def compute_dtype(device: torch.device, precision: SamplingPrecision) -> torch.dtype:
    """The type to train in: bfloat16 where the GPU has it, else float32.

    CPUs compute in float32 whatever is configured. ``tf32`` lets a GPU round the factors of
    float32 matrix products to 10 bits; a GPU without bfloat16 falls back to it, and says so. What
    is not in ``fp8`` is in bfloat16.
    """
    if device.type == "cpu":
        return torch.float32
    if precision in HALVES:
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return torch.bfloat16
        print(
            f"{torch.cuda.get_device_name(device)} has no bfloat16: computing in float32",
            file=sys.stderr,
        )
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    return torch.float32


def concrete(device: torch.device, precision: SamplingPrecision) -> SamplingPrecision:
    """A precision to sample in, where ``auto`` is bfloat16 on a GPU and float32 on a CPU."""
    if precision == "auto":
        return "float32" if device.type == "cpu" else "bfloat16"
    return precision


def sampling_dtype(device: torch.device, precision: SamplingPrecision) -> torch.dtype:
    """The type to sample in: as `compute_dtype`, but that a CPU does what it is asked for.

    In place of FP8 it takes bfloat16, and without instructions for that, in which it would be slow,
    float32; and says so.
    """
    precision = concrete(device, precision)
    if device.type != "cpu" or precision not in HALVES:
        return compute_dtype(device, precision)
    taken = torch.bfloat16 if multiplies_bfloat16() else torch.float32
    name = str(taken).removeprefix("torch.")
    if name != precision:
        print(f"this CPU has no {precision}: computing in {name}", file=sys.stderr)
    return taken


@cache
def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16 that PyTorch knows of."""
    # Not in every version, and not for every kind of processor.
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return asked is not None and bool(asked())


def has_fp8(device: torch.device) -> bool:
    """Whether products of e4m3 can be computed; a GPU that cannot says so, and takes bfloat16."""
    if device.type == "cpu":
        return False
    if torch.cuda.get_device_capability(device) < (8, 9):
        why = f"{torch.cuda.get_device_name(device)} has no FP8"
    elif not has_triton() or find_spec("triton.tools.tensor_descriptor") is None:
        why = "FP8 needs Triton 3.4, which comes with PyTorch 2.8"
    else:
        return True
    print(f"{why}: computing in bfloat16", file=sys.stderr)
    return False


@cache
def has_triton() -> bool:
    """Whether kernels can be written in Triton here."""
    return find_spec("triton") is not None
