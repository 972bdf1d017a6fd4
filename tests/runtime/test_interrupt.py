"""An interrupted process ends with one line, whatever it is at."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from children import Process
from flowquant.runtime.digest import PACKAGE
from flowquant.runtime.interrupt import FOR

HEAD = """
import signal, sys, time
from flowquant.config.command_line import run
from flowquant.runtime import interrupt

interrupt.SECONDS = 0.2
interrupt.prepare("sample")
"""
AT_WORK = "print('at work', flush=True)"
IMPORTING = f"""
try:
    {AT_WORK}
    time.sleep(60)
except BaseException:
    raise ImportError("broken")
"""
TURNED = f"""
def stage() -> None:
    try:
        {AT_WORK}
        time.sleep(60)
    except KeyboardInterrupt as error:
        raise ImportError("broken") from error

run(stage, "sample", [])
"""
STUBBORN = f"""
interrupt.at_work("sample")
while True:
    try:
        {AT_WORK}
        time.sleep(60)
    except KeyboardInterrupt:
        pass
"""

# Another thread takes the signal: the call that waits goes on, as if it had come just before.
UNSEEN = f"""
import threading

def take() -> None:
    print("taken", flush=True)
    time.sleep(600)

def stage() -> None:
    thread = threading.Thread(target=take, daemon=True)
    thread.start()
    try:
        {AT_WORK}
        threading.Timer(0.2, signal.pthread_kill, (thread.ident, signal.NUMBER)).start()
        time.sleep(600)
    finally:
        print("cleaned", flush=True)

interrupt.SECONDS = 30
run(stage, "sample", [])
"""

# Training has a handler of its own, which keeps the state.
KEPT = """
import os, pathlib
from flowquant.training.resume import Keeper

def stage() -> None:
    try:
        with Keeper(pathlib.Path("PATH"), "run", dict, seconds=1000) as keep:
            os.kill(os.getpid(), signal.NUMBER)
            keep()
    finally:
        time.sleep(5 * interrupt.AGAIN)
        print("cleaned", flush=True)

interrupt.SECONDS = 30
run(stage, "train", [])
"""

# A signal that another thread takes, which has not blocked it.
POSTPONED = f"""
import os

def stage() -> None:
    with interrupt.postponed():
        with interrupt.postponed():
            {AT_WORK}
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
            print("over", flush=True)
        print("all over", flush=True)
    print("never", flush=True)

run(stage, "sample", [])
"""


def start(code: str, **environment: str) -> Process:
    return Process(
        [sys.executable, "-c", HEAD + code],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("code", [IMPORTING, TURNED, STUBBORN])
def test_an_interruption_is_a_line(code: str) -> None:
    with start(code) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted: sample\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_a_call_that_waits_has_not_seen_is_sent_once_more(number: signal.Signals) -> None:
    with start(UNSEEN.replace("NUMBER", number.name)) as process:
        out, err = process.communicate(timeout=120)
    assert out.splitlines()[-1] == "cleaned"
    assert process.returncode == 128 + number
    assert err.count("\n") == 1, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_keeps_a_state_is_not_sent_once_more(number: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    code = KEPT.replace("PATH", str(path)).replace("NUMBER", number.name)
    with start(code) as process:
        out, err = process.communicate(timeout=120)
    assert out == "cleaned\n"
    assert process.returncode == 128 + number
    assert err.endswith(f"kept the state in {path}\n")
    assert err.count("\n") == 1


def test_who_is_wanted_no_more_ends() -> None:
    with Process([sys.executable, "-c", ""]) as gone:
        pass
    with start(STUBBORN, **{FOR: str(gone.pid)}) as process:
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "interrupted: sample\n")


def test_a_process_in_the_background_of_a_script_goes_on() -> None:
    ignoring = "signal.signal(signal.SIGINT, signal.SIG_IGN)\ninterrupt.prepare('sample')\n"
    code = f"{ignoring}{AT_WORK}\nsys.stdin.readline()"
    with Process(
        [sys.executable, "-c", HEAD.replace('interrupt.prepare("sample")', "") + code],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate("\n", timeout=60)
    assert (process.returncode, said) == (0, "")


def test_what_is_postponed_comes_when_the_block_ends() -> None:
    with start(POSTPONED) as process:
        out, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (143, "asked to stop: sample\n")
    assert out == "at work\nover\nall over\n"
