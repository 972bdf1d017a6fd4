"""How many GPUs there are, asked of CUDA's driver, for those who must not import torch."""

import ctypes


def count() -> int:
    """The GPUs that a process started here would see; 0 where there is no driver.

    The driver itself heeds ``CUDA_VISIBLE_DEVICES``, by number, UUID or MIG name, and what a
    container or a cluster lets through. It takes no memory on any GPU.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    found = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(found))
    return 0 if failed else found.value
