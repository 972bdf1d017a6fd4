"""Which job computed on which device when, in the last run of Snakemake that computed anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import Path

from flowquant.report.tables import REMEDY, read_json_lines
from flowquant.runtime.errors import UserError
from flowquant.runtime.forms import fit


@dataclass(frozen=True)
class Claim:
    """What `runtime.timeline.note` wrote when a process had its devices; seconds since 1970."""

    run: int
    process: int
    stage: str
    output: str
    devices: tuple[str, ...]
    kind: str
    started: float
    claimed: float


@dataclass(frozen=True)
class End:
    """What it wrote when the process ended."""

    run: int
    process: int
    ended: float


@dataclass(frozen=True)
class Span:
    """A job's time on one of its devices, in seconds since the run's first job was started.

    From ``started`` to ``claimed`` its process imported what it needs and waited, until ``ended``
    it had the device. Of a process that was killed the end is not known: None.
    """

    device: str
    kind: str
    stage: str
    output: str
    started: float
    claimed: float
    ended: float | None


def read_timeline(path: Path) -> list[Span]:
    """The last run's spans, by device and time.

    Raises:
        UserError: if the file is unreadable or says nothing of any job.
    """
    claims, ends = _read_notes(path)
    if not claims:
        raise UserError(path, found="no job", expected="at least one", remedy=REMEDY)
    # Only one run at a time writes it; numbers of processes recur.
    last = list(takewhile(lambda claim: claim.run == claims[-1].run, reversed(claims)))
    first = min(claim.started for claim in last)
    spans = []
    for c in last:
        ended = ends.get((c.run, c.process))
        times = c.started - first, c.claimed - first, None if ended is None else ended - first
        spans += [Span(device, c.kind, c.stage, c.output, *times) for device in c.devices]
    return sorted(spans, key=lambda span: (span.device, span.claimed))


def device_kinds(path: Path) -> list[str]:
    """The kinds of all devices that a run's jobs computed on, sorted.

    Raises:
        UserError: if the file is unreadable.
    """
    return sorted({claim.kind for claim in _read_notes(path)[0]})


def _read_notes(path: Path) -> tuple[list[Claim], dict[tuple[int, int], float]]:
    """What jobs noted: when they had which devices, and by run and process when they ended."""
    claims: list[Claim] = []
    ends: dict[tuple[int, int], float] = {}
    expected = "what a job notes of the devices it has"
    for where, content in read_json_lines(path, expected):
        if isinstance(content, dict) and "ended" in content:
            end = fit(where, End, content, expected=expected, remedy=REMEDY)
            ends[end.run, end.process] = end.ended
        else:
            claims.append(fit(where, Claim, content, expected=expected, remedy=REMEDY))
    return claims, ends


def lanes(spans: Sequence[Span]) -> list[list[Span]]:
    """Spans of one device in as few rows as hold them without any two at the same time."""
    rows: list[list[Span]] = []
    for span in sorted(spans, key=lambda span: span.claimed):
        for row in rows:
            if end_of(row[-1]) <= span.claimed:
                row.append(span)
                break
        else:
            rows.append([span])
    return rows


def end_of(span: Span) -> float:
    """When a span ended, or where that is not known, when it began."""
    return span.claimed if span.ended is None else span.ended


def busy(spans: Sequence[Span], seconds: float, whole: bool = False) -> float:
    """The share of ``seconds`` in which any of one device's spans had it, 0…1.

    ``whole``: counted from when the process was started, not from when it had the device.
    """
    total = reached = 0.0
    for start, end in sorted((s.started if whole else s.claimed, end_of(s)) for s in spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total / seconds if seconds else 0.0


def shared(spans: Iterable[Span]) -> int:
    """How many of one device's spans began before the one before had ended."""
    ordered = sorted(spans, key=lambda span: span.claimed)
    return sum(after.claimed < end_of(before) for before, after in pairwise(ordered))
