"""The state of an unfinished run, kept so that a killed run can resume."""

from __future__ import annotations

import hashlib
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from flowquant.runtime import interrupt
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import atomic


def identity(*parts: object) -> str:
    """A digest of all that makes a run the same run; JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def save_state(path: Path, name: str, state: dict[str, Any]) -> None:
    """Keep a run's state (tensors, numbers and strings) under the run's identity ``name``."""
    with atomic(path) as temporary:
        torch.save({"identity": name, **state}, temporary)


def load_state(path: Path, name: str, device: torch.device) -> dict[str, Any] | None:
    """The state of the run ``name``, or nothing if there is none or it is another run's.

    A state that cannot be read is no state: it says so, and the run starts anew.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        found = state.pop("identity")
    except Exception as error:  # damaged bytes make the reader raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        print(f"{path}: no state to resume from ({reason}); starting anew", file=sys.stderr)
        return None
    return state if found == name else None


def is_finite(state: object) -> bool:
    """Whether no tensor in these nested dictionaries and lists holds NaN or infinity."""
    if isinstance(state, dict):
        return all(map(is_finite, state.values()))
    if isinstance(state, list | tuple):
        return all(map(is_finite, state))
    return not isinstance(state, torch.Tensor) or bool(state.isfinite().all())


class Keeper:
    """Keeps a run's state: every so often, and when the process is asked to stop.

    A state with NaN or infinity, losses included, is never kept: the last good one stays, and the
    run finds its bad loss itself.

    A context manager to call after every step. Asked to stop (SIGTERM), it saves and exits with
    143, the code of SIGTERM, so that Snakemake's ``retries`` start the job again and the run
    resumes. Interrupted (SIGINT), it saves and raises `KeyboardInterrupt`.
    """

    def __init__(
        self, path: Path, name: str, state: Callable[[], dict[str, Any]], seconds: float
    ) -> None:
        self._path, self._name, self._state, self._seconds = path, name, state, seconds
        self._saved = time.monotonic()
        self._asked_to_stop: int | None = None
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Keeper:
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._former[number] = signal.signal(number, self._ask_to_stop)
        return self

    def __exit__(self, *error: object) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._asked_to_stop = number
        interrupt.heed()

    def __call__(self) -> None:
        """Save if it is time to."""
        if not self._asked_to_stop and time.monotonic() - self._saved < self._seconds:
            return
        state = self._state()
        # Only here, where saving waits for the GPU anyway.
        good = is_finite(state)
        if good:
            try:
                save_state(self._path, self._name, state)
            except (UserError, OSError, RuntimeError) as error:
                # The run is worth more than its state; the former state stays.
                good = False
                print(f"warning: could not keep the state: {error}", file=sys.stderr)
        self._saved = time.monotonic()
        if self._asked_to_stop:
            kept = "kept the state" if good else "kept the last good state, if any,"
            if self._asked_to_stop == signal.SIGINT:
                raise KeyboardInterrupt(f"{kept} in {self._path}")
            print(f"asked to stop: {kept} in {self._path}", file=sys.stderr)
            sys.exit(128 + self._asked_to_stop)
