"""A process that has imported what stages import, and forks one that runs a stage when asked.

It imports nothing until a job asks. `flowquant.runtime.client` stands in for the job in its shell:
it hands over its arguments, environment, folder and open files, passes signals on and ends as the
job does. Each job is a process of its own, as if it had been started alone: what it computes,
writes and says is the same, and so is what its death does to others.

Nothing here computes. A fork takes neither threads nor CUDA along, so that whoever finds more than
one thread, a variable of the environment that may have been read already, or a file of code or a
folder of packages that has changed since, answers that the job is to be run afresh. After a change
or an import that would make it say so for ever, it starts itself anew as soon as no job is at work.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import marshal
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from flowquant.runtime.client import user_of
from flowquant.runtime.warm import OWN, PACKAGE, THREADS

DEATH_SIGNAL, NAME = 1, 15  # of Linux's prctl

# A stage's command line, run or just imported.
Work = Callable[[list[str]], object]


@dataclass(frozen=True)
class Job:
    """A process that runs a stage, and what this one holds of it."""

    process: int
    handle: int  # readable when it has ended
    asker: socket.socket  # whoever wants it
    word: int  # what it waits for before it begins
    notes: int  # where it says what it imported


@dataclass(frozen=True)
class Request:
    """A stage's command line, and what a process of its own would have."""

    words: list[str]
    folder: str
    environment: dict[bytes, bytes]
    files: list[int]
    asker: int


def serve(listener: int, prepare: Work, run: Work, spoilers: Sequence[str]) -> NoReturn:
    """Run stages for whoever connects, until the process that started this one is gone.

    Args:
        listener: The socket where it is asked.
        prepare: Imports what a stage's command line needs.
        run: Runs it, in a process of its own.
        spoilers: The kinds of jobs that have spoilt this process before it was started anew, with
            what they import late: that is not imported beforehand. Twice: nothing is.
    """
    # Jobs know what to do about these; without them, so does this process.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _Server(socket.socket(fileno=listener), prepare, run, spoilers).serve()
    os._exit(0)


class _Server:
    def __init__(
        self, listener: socket.socket, prepare: Work, run: Work, spoilers: Sequence[str]
    ) -> None:
        self.listener, self.prepare, self.run = listener, prepare, run
        self.spoilers = spoilers
        # The kind that has spoilt this process now; of none, it is that files have changed.
        self.spoiler: str | None = None
        self.number = os.getpid()
        # Some imports add folders, which say nothing of what has changed.
        self.folders = tuple(sys.path)
        self.environment, self.code = dict(os.environb), stamps(self.folders)
        self.jobs: dict[int, Job] = {}
        # What jobs of a kind imported only when they were at work, by kind.
        self.late: dict[str, list[str]] = {}
        self.prctl = ctypes.CDLL(None).prctl

    def serve(self) -> None:
        """Answer, fork and bury until nobody can ask any more."""
        wanted = True
        while wanted or self.jobs:
            if self.spoiler is not None and not self.jobs:
                self._start_anew(self.spoiler)
            ends = [job.handle for job in self.jobs.values()]
            askers = {job.asker: job for job in self.jobs.values()}
            asked: list[Any] = [self.listener, sys.stdin] if wanted else []
            ready = select.select([*asked, *ends, *askers], [], [])[0]
            for job in list(self.jobs.values()):
                if job.handle in ready:
                    self._bury(job)
                elif job.asker in ready:
                    self._hear(job)
            if sys.stdin in ready:
                # Who held the other end of it is gone: so are all who might ask.
                wanted = False
                self.listener.close()
            elif self.listener in ready:
                self._answer()

    def _answer(self) -> None:
        asker, _ = self.listener.accept()
        begun = False
        request = None
        try:
            request = receive(asker)
            if request is not None and self._fits(request) and self._prepared(request.words):
                self._fork(asker, request)
                begun = True
        except (OSError, EOFError, ValueError, TypeError):
            pass  # it has changed its mind, or is no client
        finally:
            for file in request.files if request else []:
                os.close(file)
            if not begun:
                with suppress(OSError):
                    asker.sendall(_packed(0))
                asker.close()

    def _fits(self, request: Request) -> bool:
        """Whether a job would find all as in a process of its own."""
        ours, theirs = self.environment, request.environment
        differing = {n for n in ours.keys() | theirs.keys() if ours.get(n) != theirs.get(n)}
        threads = theirs.get(THREADS[0].encode(), b"").decode(errors="replace")
        if self.spoiler is None and self.code != stamps(self.folders):
            self.spoiler = ""
        return (
            self.spoiler is None
            and threads.isdigit()
            and {os.fsdecode(name) for name in differing} <= OWN
            and request.folder == str(Path.cwd())
        )

    def _prepared(self, words: list[str]) -> bool:
        """Whether what a job needs is imported, and a fork is as good as a process of its own."""
        kind = _kind(words)
        if self.spoilers.count(kind) > 1:
            return False
        had = len(sys.modules)
        imported, spoilt = False, True
        with suppress(BaseException):  # an import that exits leaves who knows what behind
            imported = self._import(kind, words)
            spoilt = len(list(Path("/proc/self/task").iterdir())) > 1 or _has_cuda()
        if spoilt:
            self.spoiler = kind
        if len(sys.modules) > had:
            # What is there stays: looking through it would copy its memory in every job.
            gc.collect()
            gc.freeze()
        return imported and not spoilt

    def _import(self, kind: str, words: list[str]) -> bool:
        """Import what a job needs; whether it could be."""
        try:
            self.prepare(words)
        except Exception:
            return False
        late = () if kind in self.spoilers else self.late.pop(kind, ())
        for name in late:
            with suppress(Exception):
                importlib.import_module(name)
        return True

    def _start_anew(self, spoiler: str) -> NoReturn:
        """Be the program that this process was started as; whoever asks meanwhile waits."""
        command = [sys.executable, *sys.orig_argv[1:], *([spoiler] if spoiler else [])]
        os.execve(sys.executable, command, self.environment)  # noqa: S606 it is this program

    def _fork(self, asker: socket.socket, request: Request) -> None:
        notes = os.memfd_create("notes")
        begin, word = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(word)
            asker.close()
            self._become(request, begin, notes)
        os.close(begin)
        self.jobs[process] = Job(process, os.pidfd_open(process), asker, word, notes)
        with suppress(OSError):  # who is gone is heard of
            asker.sendall(_packed(process))

    def _hear(self, job: Job) -> None:
        """Let a job begin; or end it as if it had been killed, if whoever asked has been."""
        try:
            word = job.asker.recv(1)
        except OSError:
            word = b""
        if word:
            os.write(job.word, word)
        else:
            os.kill(job.process, signal.SIGKILL)
            self._bury(job)

    def _bury(self, job: Job) -> None:
        _, status = os.waitpid(job.process, 0)
        del self.jobs[job.process]
        os.close(job.handle)
        os.close(job.word)
        with os.fdopen(job.notes, "rb") as notes, suppress(ValueError, EOFError, TypeError):
            notes.seek(0)
            self.late.update(marshal.load(notes))  # noqa: S302 our own
        with suppress(OSError):
            job.asker.sendall(_packed(os.waitstatus_to_exitcode(status)))
        job.asker.close()

    def _become(self, request: Request, begin: int, notes: int) -> NoReturn:
        """What the fork does: it is the process that the request would have started."""
        code = 1
        try:
            # Without this process, whoever asked runs the job afresh.
            self.prctl(DEATH_SIGNAL, signal.SIGKILL)
            if os.getppid() != self.number:
                os._exit(1)
            self.prctl(NAME, f"job {request.asker}".encode(), 0, 0, 0)
            for job in self.jobs.values():
                job.asker.close()
                for file in (job.handle, job.word, job.notes):
                    os.close(file)
            self.listener.close()
            # A shell that a terminal interrupts has it ignored until a stage has its own way.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            if not os.read(begin, 1):
                os._exit(1)
            os.close(begin)
            for own, given in enumerate(request.files):
                os.dup2(given, own)
                os.close(given)
            os.environb.clear()
            os.environb.update(request.environment)
            sys.argv[1:] = request.words
            sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
            had = set(sys.modules)
            _use_threads(int(os.environ[THREADS[0]]))
            code = exit_code(self.run, request.words)
            # In their order: some modules set what others read as they are imported.
            learned = [name for name in sys.modules if name not in had and _is_installed(name)]
            with os.fdopen(notes, "wb") as noted:
                marshal.dump({_kind(request.words): learned}, noted)
        except BaseException:
            traceback.print_exc()
        os._exit(_ended(code))


def receive(asker: socket.socket) -> Request | None:
    """What somebody asks for; None if it is another user."""
    if user_of(asker) != os.getuid():
        return None
    asker.settimeout(10)
    head, files, _, _ = socket.recv_fds(asker, 4, 3)
    try:
        content = _received(asker, int.from_bytes(head, "little"))
        words, folder, environment = marshal.loads(content)  # noqa: S302 it is the same user's
    except BaseException:
        for file in files:
            os.close(file)
        raise
    asker.settimeout(None)
    process = asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4]
    number = int.from_bytes(process, sys.byteorder)
    return Request(words, folder, dict(environment), files, number)


def _received(asker: socket.socket, size: int) -> bytes:
    content = bytearray()
    while len(content) < size:
        part = asker.recv(min(size - len(content), 1 << 20))
        if not part:
            raise ConnectionError
        content += part
    return bytes(content)


def stamps(folders: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """What changes with this package's files, and with what else is installed in folders."""
    found: dict[str, tuple[int, ...]] = {}
    for path in PACKAGE.rglob("*.py"):
        with suppress(OSError):
            is_ = path.stat()
            found[str(path)] = (is_.st_ino, is_.st_size, is_.st_mtime_ns)
    for folder in folders:
        with suppress(OSError):
            found |= {str(path): () for path in Path(folder).glob("*.dist-info")}
    return found


def exit_code(run: Work, words: list[str]) -> int:
    """Run a stage's command line, and end as Python does: the exit code."""
    try:
        run(words)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


def _ended(code: int) -> int:
    """Do what Python does at its end, but for taking down what it has imported."""
    ends: tuple[Callable[[], object], ...] = (
        threading._shutdown,  # type: ignore[attr-defined]
        atexit._run_exitfuncs,
        sys.stdout.flush,
        sys.stderr.flush,
    )
    for end in ends:
        try:
            end()
        except BaseException:
            traceback.print_exc()
            code = code or 1
    return code


def _use_threads(count: int) -> None:
    """Let what is imported already compute with so many threads."""
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        threadpool_limits(count)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)


def _has_cuda() -> bool:
    torch: Any = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def _is_installed(name: str) -> bool:
    """Whether a module is Python's, of a package or ours, and not the user's own."""
    spec = getattr(sys.modules.get(name), "__spec__", None)
    origin = getattr(spec, "origin", None) or ""
    return origin.startswith((sys.prefix, sys.base_prefix, str(PACKAGE)))


def _kind(words: list[str]) -> str:
    return " ".join(words[:1])


def _packed(number: int) -> bytes:
    return number.to_bytes(4, "little", signed=True)
