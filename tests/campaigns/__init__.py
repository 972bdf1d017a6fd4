"""Campaigns: random kills, malformed inputs and malformed configurations (`make campaign`)."""

import os

# One thread, before anything is imported: what is forked must have no other.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
