"""When which stage computed where: two lines for each in a file of its run."""

import atexit
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from flowquant.runtime.interrupt import FOR

# The file; set by `flowquant.config.session` for the jobs of a run.
FILE = "FLOWQUANT_TIMELINE"


def note(devices: Sequence[str], kind: str) -> None:
    """Say that this process has these devices, of one kind, from now until it ends.

    A process that is killed, or leaves at once, says no end.
    """
    if not (path := os.environ.get(FILE)):
        return
    process: dict[str, object] = {"run": int(os.environ.get(FOR, "0")), "process": os.getpid()}
    outputs = [word.partition("=")[2] for word in sys.argv if word.startswith("--output=")]
    doing = {"stage": "".join(sys.argv[1:2]), "output": "".join(outputs[:1])}
    now = time.time()
    times = {"started": _started(now), "claimed": now}
    _write(path, process | doing | {"devices": list(devices), "kind": kind} | times)
    atexit.register(lambda: _write(path, process | {"ended": time.time()}))


def _started(now: float) -> float:
    """When this process was started; ``now``, where that cannot be known."""
    with suppress(OSError, ValueError, IndexError, AttributeError):
        # In ticks since the machine was started.
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        up = time.clock_gettime(time.CLOCK_BOOTTIME)
        return now - max(0.0, up - ticks / os.sysconf("SC_CLK_TCK"))
    return now


def _write(path: str, line: dict[str, object]) -> None:
    with suppress(OSError), Path(path).open("ab", buffering=0) as file:
        # At once, so that lines of jobs side by side do not mix.
        file.write(f"{json.dumps(line)}\n".encode())
