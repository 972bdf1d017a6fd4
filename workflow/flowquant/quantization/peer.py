"""Matrices quantized by a peer: another project's code, in a program of its own.

A program is called with the paths of three files, ``--bits``, ``--device`` and its settings. It
reads the first, safetensors of float32 matrices or kernels; writes to the second what they become,
under the same names, shapes and type; and to the third JSON, its ``package`` with the version and,
under ``tensors``, for each name the bytes of each part that the peer would store:
``{"codes": 512, …}``. With ``--help`` it only imports what it needs. Nothing of a peer is imported
here.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import Tensor

from flowquant.runtime import interrupt
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import read_text, temporary_folder
from flowquant.runtime.forms import fit, parse_json
from flowquant.runtime.tensors import (
    check_finite,
    check_tensors,
    form_of,
    read_tensors,
    write_plain,
)

REMEDY = "Correct the program, or leave the row out; its whole output is in the job's log."
INSTALL = (
    "Install the peers, `pip install -r envs/requirements-peers.txt` in an environment of their "
    "own, and run from there; or let Snakemake make one, `--sdm conda`; or leave the row out."
)


@dataclass(frozen=True)
class Counts:
    """What a program says of its package and of the bytes that it would store."""

    package: str
    tensors: dict[str, dict[str, Annotated[int, Field(ge=0)]]]


def try_out(program: Path) -> None:
    """Have a program import what it needs.

    Raises:
        UserError: if its peer is not installed, or it fails otherwise.
    """
    _run(program, "--help")


def quantize_by_peer(
    program: Path, matrices: Mapping[str, Tensor], words: Sequence[str], beside: Path
) -> tuple[dict[str, Tensor], Counts]:
    """Matrices as a program quantizes them, float32, and the bytes of each that it would store.

    Args:
        program: Of the peer.
        matrices: Weights by name, float32, of two dimensions or more.
        words: Its options.
        beside: A file beside which a temporary folder may lie.

    Raises:
        UserError: if its peer is not installed, it fails, or what it writes is something else.
    """
    # In a folder, since programs may leave more than they were asked for when they are killed.
    with temporary_folder(beside) as folder:
        weights, quantized = folder / "weights.safetensors", folder / "quantized.safetensors"
        counted = folder / "counted.json"
        write_plain(weights, matrices)
        _run(program, *map(str, (weights, quantized, counted)), *words)
        values, _ = read_tensors(quantized)
        try:
            content = parse_json(read_text(counted))
        except (OSError, ValueError) as error:
            raise _wrong(program, f"counts that are unreadable ({error})") from error
    expected = "each matrix as it was given, finite, and the bytes of each"
    forms = {name: form_of(matrix) for name, matrix in matrices.items()}
    check_tensors(program, values, forms, expected, REMEDY)
    check_finite(program, values, REMEDY)
    counts = fit(program, Counts, content, expected=expected, remedy=REMEDY)
    if counts.tensors.keys() != matrices.keys() or not all(
        sum(parts.values()) for parts in counts.tensors.values()
    ):
        raise _wrong(program, "no bytes for some matrices, or for others than there are")
    return values, counts


def _run(program: Path, *words: str) -> None:
    process = None
    try:
        with interrupt.postponed():
            process = subprocess.Popen(  # noqa: S603 (no shell; the configuration names it)
                [sys.executable, str(program), *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        said, _ = process.communicate()
    finally:
        # Interrupted, nothing of it goes on.
        if process is not None:
            process.kill()
            process.wait()
    last = (said.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
    if process.returncode and last.startswith("ModuleNotFoundError"):
        raise UserError(
            f"peer `{program.stem.removeprefix('by_')}`",
            found=last.partition(": ")[2],
            expected="its package to be installed",
            remedy=INSTALL,
        )
    print(said, end="", file=sys.stderr)
    if process.returncode:
        raise _wrong(program, f"a program that fails ({last})")


def _wrong(program: Path, found: str) -> UserError:
    return UserError(program, found=found, expected="matrices quantized", remedy=REMEDY)
