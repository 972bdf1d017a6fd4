"""The warm process of a run on one machine, from which its jobs are forked: how it is started.

Half of a small job is importing PyTorch. The commands of rules (`flowquant.config.shell`) run
`flowquant.runtime.client` where such a process was started, which asks `flowquant.runtime.server`
in it; elsewhere, as on a cluster's nodes, ``python -m flowquant``.
"""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from flowquant.runtime import timeline
from flowquant.runtime.client import ADDRESS

PACKAGE = Path(__file__).parents[1]
# The variable that the commands of rules look for, and what they run then.
CLIENT = {"FLOWQUANT_CLIENT": str(Path(__file__).with_name("client.py"))}
# Said by users who want none.
OFF = ("0", "no", "off")
# What a job's environment may say that this process's does not: where it runs, and what is read
# when it computes, not when something is imported.
THREADS = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"),
)
NO_DRIVER = "PYTORCH_NVML_BASED_CUDA_CHECK"
OWN = {
    *("PWD", "OLDPWD", "SHLVL", "_", "PATH", "TMPDIR", "TMP", "TEMP", "TEMPDIR"),
    *("FLOWQUANT_FOR", "FLOWQUANT_CLASSES", timeline.FILE, ADDRESS, *CLIENT, *THREADS),
    *("CUDA_VISIBLE_DEVICES", NO_DRIVER),
}


def start(
    environment: Mapping[str, str], program: Sequence[str] = ("-m", "flowquant", "--serve")
) -> int | None:
    """Start such a process, and let jobs that this one starts find it; its number.

    It ends with this one.

    None where there can be none, or the user wants none (``FLOWQUANT_WARM=no``).

    Args:
        environment: What jobs will have, but for ``OWN``.
        program: What Python is to run, before the number of the socket.
    """
    wanted = os.environ.get(ADDRESS, "").lower() not in OFF
    if not (wanted and sys.platform == "linux" and hasattr(os, "pidfd_open")):
        return None
    address = f"flowquant-{os.getpid()}-{secrets.token_hex(8)}"
    # Without threads, whose number is set for each job, and without a word to CUDA's driver.
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{address}")
            listener.listen(128)
            process = subprocess.Popen(  # noqa: S603 it is this program
                [sys.executable, *program, str(listener.fileno())],
                env={**environment, **dict.fromkeys(THREADS, "1"), NO_DRIVER: "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
            )
    except OSError:
        return None
    os.environ |= {ADDRESS: address, **CLIENT}
    atexit.register(_end, process)
    return process.pid


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(2)  # jobs that are at work still end by themselves
