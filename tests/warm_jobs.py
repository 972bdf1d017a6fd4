"""Jobs for a warm process to run, and how they run without one.

python -m warm_jobs --serve SOCKET [SPOILER …]
python -m warm_jobs JOB …
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

from flowquant.config.command_line import run
from flowquant.runtime import interrupt

SERVED = "--serve" in sys.argv


def prepare(words: list[str]) -> None:
    """What the warm process does for a job beforehand."""
    if words[0] == "unknown":
        raise ImportError
    if words[0] == "threads":
        import numpy  # noqa: F401
        import torch  # noqa: F401
    if words[0] == "thread":
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    if words[0] == "path":
        sys.path.append(words[1])


def say(**what: object) -> None:
    print(json.dumps({"served": SERVED, "parent": os.getppid(), **what}), flush=True)


def wait() -> None:
    """Work that never ends and has something to clean up."""
    try:
        say(process=os.getpid())
        time.sleep(1000)
    finally:
        Path("cleaned").touch()


def work(words: list[str]) -> None:
    """Do a job."""
    match words[0]:
        case "wait":
            interrupt.prepare("wait")
            run(wait, "wait", [])
        case "stubborn":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            say()
            signal.sigwait({signal.SIGTERM})
            Path("told").touch()
            time.sleep(1000)
        case "exit":
            sys.exit(int(words[1]))
        case "error":
            sys.exit("error: of the user")
        case "raise":
            raise RuntimeError("of ours")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "late":
            say(known=[name for name in sys.modules if name in words[1:]])
            for name in words[1:]:
                import_module(name)
        case "threads":
            import threadpoolctl
            import torch

            pools = {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
            say(torch=torch.get_num_threads(), pools=sorted(pools))
        case _:
            names = ("CUDA_VISIBLE_DEVICES", "FLOWQUANT_CLASSES", "OTHER", "TMPDIR")
            say(
                words=words,
                folder=str(Path.cwd()),
                environment={name: os.environ.get(name) for name in names},
                said=sys.stdin.read(),
            )
            print("to stderr", file=sys.stderr)


if __name__ == "__main__":
    if SERVED:
        from flowquant.runtime.server import serve

        serve(int(sys.argv[2]), prepare, work, sys.argv[3:])
    if sys.argv[1] == "start":
        from flowquant.runtime.client import ADDRESS
        from flowquant.runtime.warm import start

        print(start(os.environ, ("-m", "warm_jobs", "--serve")), flush=True)
        print(os.environ.get(ADDRESS, ""), flush=True)
        sys.stdin.readline()
    else:
        work(sys.argv[1:])
