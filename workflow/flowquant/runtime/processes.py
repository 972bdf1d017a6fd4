"""Helper processes, which do the same work as this one on other devices."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from tqdm import tqdm

from flowquant.runtime import interrupt
from flowquant.runtime.errors import UserError


@contextmanager
def helpers(
    work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]
) -> Iterator[Callable[[], list[Any]]]:
    """Call ``work`` in a fresh process for each of ``arguments`` while the block runs.

    When the block ends well, helpers are waited for; otherwise they are killed. A helper that fails
    ends this process with exit code 1, since it may be waiting in a collective operation, where no
    exception reaches it. If this process dies, so do its helpers.

    Yields a function that waits for all results and returns them, in order. Work is a module's
    function; arguments and results are pickled, and results must not be tensors, whose shared
    memory ends with the helper.
    """
    context = get_context("spawn")
    links: list[Connection] = []
    processes: list[BaseProcess] = []
    abandoned = threading.Event()
    watch = threading.Thread(target=_watch, args=(processes, abandoned), daemon=True)

    def results() -> list[Any]:
        """What the calls returned, in order."""
        try:
            return [link.recv() for link in links]
        except EOFError:
            watch.join()  # It ends this process.
            raise

    # Its start, which would come with the first helper's, unblocks signals.
    resource_tracker.ensure_running()
    try:
        for own in arguments:
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_run_helper, args=(theirs, work, own), daemon=True)
            # It imports before it can say what it does about signals.
            with interrupt.postponed():
                process.start()
            theirs.close()
            links.append(ours)
            processes.append(process)
        watch.start()
        yield results
        watch.join()
    except BaseException:
        abandoned.set()
        for helper in processes:
            helper.kill()
        raise


def _watch(processes: list[BaseProcess], abandoned: threading.Event) -> None:
    """Wait for all helpers; end this process if one fails before they are abandoned."""
    running: dict[Any, BaseProcess] = {process.sentinel: process for process in processes}
    while running:
        for sentinel in wait(list(running)):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode and not abandoned.is_set():
                print(f"a helper process ended with {process.exitcode}", file=sys.stderr)
                sys.stderr.flush()
                os._exit(1)


def _run_helper(link: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """What a helper process does: the work, and its result sent over ``link``."""
    follow_parent()
    # A cluster that ends a job tells all its processes; the main one knows what to do.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, interrupt.WORDS)
    # Bars here share no lock with other processes: if this one is killed, nothing is left behind.
    tqdm.set_lock(threading.RLock())
    try:
        link.send(work(*arguments))
    except UserError as error:
        sys.exit(f"error: {error}")
    # The result is sent: errors while libraries shut down must not make it a failure.
    os._exit(0)


def follow_parent() -> None:
    """Make this helper process end with its parent, to which it leaves interruptions."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent has ended, however that came about."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
