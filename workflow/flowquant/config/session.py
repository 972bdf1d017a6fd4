"""A run of Snakemake, apart from its jobs: how it is interrupted, and what it says of failures.

    python -m flowquant.config.session …

is ``snakemake …`` that can be interrupted from the start, and that removes a lock whose owner is
gone.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from flowquant.config.benchmarks import follow
from flowquant.config.failures import out_of_memory
from flowquant.runtime import interrupt, lock, timeline, warm
from flowquant.runtime.records import keep_records

# Lines of a log that are shown.
LINES = 15
# Snakemake says this around every job.
CHATTER = ("Select jobs to execute...", "Shutting down, this might take some time.")
GRACEFUL = "Will exit after finishing currently running jobs (scheduler)."


class Session:
    """The run that this process is.

    Snakemake ends with exit code 1, or a traceback, when it is interrupted, after all jobs on this
    machine have ended by themselves. Here they are made to end, and the exit code is that of
    SIGINT. Jobs of a cluster it cancels itself.
    """

    def __init__(self) -> None:
        self.interrupted = False
        # Jobs are this process's.
        self._local = False
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._interrupt)
            sys.excepthook = self._except

    @classmethod
    def of(cls, workflow: Any) -> Session | None:
        """The session of this process; none in a job, or where another workflow uses this one.

        That workflow has its own ways, and its records are not ours to move.
        """
        if not workflow.is_main_process or not workflow.modifier.is_main_snakefile():
            return None
        session = cls()
        # A graph of thousands of jobs stays: looking through it for garbage, however seldom, was a
        # tenth of what a dry run takes.
        gc.disable()
        keep_records(Path("results"))
        return session

    def start(
        self,
        logger: logging.Logger,
        workflow: Any,
        devices: Path,
        jobs: Mapping[str, str] | None,
    ) -> None:
        """Jobs are about to run: Snakemake has a scheduler, a screen and its lock of the folder.

        Those of this machine note in the file ``devices`` when they computed where. ``jobs`` is
        their environment, where this interpreter runs them.
        """
        gc.freeze()
        gc.enable()
        self._local = workflow.local_exec
        if self._local:
            devices.parent.mkdir(parents=True, exist_ok=True)
            os.environ[timeline.FILE] = str(devices)
            if jobs is not None and (server := warm.start(jobs)) is not None:
                follow(server)
        lock.claim(getattr(workflow.persistence, "_lockfile", {}).values())
        for handler in logger.handlers:
            if handler.get_name() == "DefaultStreamHandler":
                screen = Screen(handler, lambda: self.interrupted)
                handler.setFormatter(screen)
                handler.filters = [screen]

    def end(self, logs: Iterable[str]) -> None:
        """Jobs have ended, not all of them well; ``logs`` are Snakemake's of the run."""
        for line in out_of_memory(logs):
            print(line, file=sys.stderr)
        if self.interrupted:
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.interrupted:
            return
        self.interrupted = True
        # What the scheduler does when it is asked to stop.
        stop = signal.getsignal(signal.SIGTERM)
        if not self._local or not callable(stop):
            raise KeyboardInterrupt
        threading.Thread(target=_stop, args=(stop,), daemon=True).start()

    def _except(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("interrupted; the same command goes on from here", file=sys.stderr, flush=True)
        else:
            sys.__excepthook__(kind, error, trace)


def _stop(scheduler: Callable[[int, None], object]) -> None:
    """Let the scheduler start nothing more, and end all jobs."""
    import psutil

    scheduler(signal.SIGTERM, None)
    started = time.monotonic()
    # Once more and again for a job that was just about to start; the others heed the first.
    while True:
        late = time.monotonic() - started > interrupt.SECONDS + 1
        for process in psutil.Process().children(recursive=True):
            try:
                process.send_signal(signal.SIGKILL if late else signal.SIGINT)
            except psutil.Error:
                continue
        time.sleep(0.5)


class Screen(logging.Formatter):
    """What a person reads: of a failed job, which it is, why, and where its log is.

    Snakemake would show its command three times and its whole log, or with ``--quiet rules`` the
    command alone. Its own log file has all of that.

    Args:
        handler: Snakemake's for the screen, whose format and filters all else goes through.
        interrupted: Whether jobs are failing because somebody wants them to.
    """

    def __init__(self, handler: logging.Handler, interrupted: Callable[[], bool]) -> None:
        super().__init__()
        self._former, self._filters = handler.formatter, list(handler.filters)
        self._interrupted = interrupted

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a message is shown."""
        event = getattr(record, "event", None)
        if event == "job_error":
            return not self._interrupted()
        if event == "error" and "CalledProcessError" in record.getMessage():
            return False  # the failed job follows
        if event == "job_started" or record.msg in CHATTER:
            return False
        if record.msg == GRACEFUL and self._interrupted():
            return False
        return all(
            former(record) if callable(former) else former.filter(record)
            for former in self._filters
        )

    def format(self, record: logging.LogRecord) -> str:
        """A message as it is shown."""
        if getattr(record, "event", None) == "job_error":
            return "\n".join(_failure(record.__dict__))
        return self._former.format(record) if self._former else record.getMessage()


def _failure(job: dict[str, Any]) -> Iterator[str]:
    yield f"\nfailed: job {job['jobid']} ({job['rule_name']}), for {', '.join(job['output'][:1])}"
    for name, value in job["aux"].items():
        yield f"    {name}: {value}"
    for log in job["log"]:
        lines = _last_lines(Path(log))
        yield f"the end of {log}:" if lines else f"{log} says nothing"
        yield from (f"    {line}" for line in lines)


def _last_lines(log: Path) -> list[str]:
    """The end of a log: the message to the user, or what there is."""
    try:
        text = log.read_bytes().decode(errors="replace")
    except OSError:
        return []
    # A bar is drawn over and over in its line.
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.rstrip().split("\n")][-LINES:]
    starts = [index for index, line in enumerate(lines) if line.startswith("error: ")]
    return lines[starts[0] :] if starts else [line for line in lines if line]


def main() -> None:
    """Run Snakemake with this process's arguments."""
    Session()
    if (problem := lock.release()) is not None:
        sys.exit(f"error: {problem}")
    from snakemake.cli import main as snakemake

    snakemake()


if __name__ == "__main__":
    main()
