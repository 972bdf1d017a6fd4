"""A stage run by the process that is warm already, or else in a process of its own.

    python …/client.py flowquant COMMAND …

is ``python -m flowquant COMMAND …``: what it says, its exit status, how it takes signals. As this
is all that a job starts anew, it imports next to nothing.
"""

import marshal
import os
import select
import signal
import socket
import sys

# Where `flowquant.runtime.warm` listens, in Linux's own namespace of sockets.
ADDRESS = "FLOWQUANT_WARM"
# For all that must be imported before a job of a new kind begins.
PATIENCE = 300
# Told to the job; others end this process, and with it the job.
TOLD = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def main() -> None:
    """Run the stage that this process's arguments name, and end as it does."""
    words, address = sys.argv[1:], os.environ.get(ADDRESS)
    status = served(address, words[1:]) if address else None
    if status is None:
        os.execv(sys.executable, [sys.executable, "-m", *words])  # noqa: S606
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


def served(address: str, words: list[str]) -> int | None:
    """The exit status of a stage's command line that the warm process ran, -N for signal N.

    None if it is still to be run: there is no such process, it does not want to, or it died, which
    ends what it runs.
    """
    told: list[int] = []
    former = {number: signal.getsignal(number) for number in TOLD}
    come, comes = os.pipe()
    os.set_blocking(comes, False)
    job = 0
    try:
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(PATIENCE)
            link.connect(f"\0{address}")
            if user_of(link) != os.getuid():
                return None
            request = marshal.dumps((words, os.getcwd(), list(os.environb.items())))  # noqa: PTH109
            socket.send_fds(link, [len(request).to_bytes(4, "little")], [0, 1, 2])
            link.sendall(request)
            job = _number(link)
            if job == 0:
                return None
            signal.set_wakeup_fd(comes, warn_on_full_buffer=False)
            for number in TOLD:
                signal.signal(number, lambda number, _: _tell(job, number, told))
            # Nothing has begun before this word has come.
            link.sendall(b".")
            # A call that waits does not see a signal that came just before it, but what it left.
            while link.fileno() not in select.select([link.fileno(), come], [], [])[0]:
                os.read(come, 64)
            return _number(link)
    except OSError:
        if job:
            _wait_for_end(job)
        # What was asked to stop is not begun again.
        return 128 + told[0] if told else None
    finally:
        for number in TOLD:
            signal.signal(number, former[number])
        signal.set_wakeup_fd(-1)
        os.close(come)
        os.close(comes)


def user_of(link: socket.socket) -> int:
    """Who is at the other end of a local socket."""
    # Three integers: process, user, group.
    peer = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(peer[4:8], sys.byteorder)


def _number(link: socket.socket) -> int:
    """The next number that comes."""
    found = b""
    while len(found) < 4:
        part = link.recv(4 - len(found))
        if not part:
            raise ConnectionError
        found += part
    return int.from_bytes(found, "little", signed=True)


def _tell(job: int, number: int, told: list[int]) -> None:
    told.append(number)
    try:  # noqa: SIM105 one import less
        os.kill(job, number)
    except ProcessLookupError:
        pass  # it has just ended


def _wait_for_end(job: int) -> None:
    """Wait for a process that is about to be killed."""
    try:
        handle = os.pidfd_open(job)
    except ProcessLookupError:
        return
    select.select([handle], [], [])
    os.close(handle)


if __name__ == "__main__":
    main()
