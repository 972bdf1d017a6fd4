"""POT, without the array libraries that it would start with it.

POT starts each of those that are installed, and JAX takes three quarters of a GPU's memory as it
starts: from the jobs that share the GPU, which then find none.
"""

import os

for library in ("CUPY", "JAX", "TENSORFLOW"):
    os.environ[f"POT_BACKEND_DISABLE_{library}"] = "1"

import ot  # noqa: E402 read as it is imported

__all__ = ["ot"]
