"""What `score` wrote, a file for each set of samples, as rows of each thing that it measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowquant.report.results import Scores
from flowquant.report.tables import REMEDY, Row, read_results
from flowquant.runtime.errors import UserError, some

SECTIONS = ("evaluation", "downstream", "fidelity")


@dataclass(frozen=True)
class Scored:
    """Rows, each of whose samples it is and what was measured of them.

    ``evaluations`` has one for each set of samples and ``extractor``; ``downstreams`` and
    ``fidelities`` have one where that was measured.
    """

    evaluations: list[Row]
    downstreams: list[Row]
    fidelities: list[Row]


def read_scores(paths: Iterable[Path], extractors: Sequence[str] = ()) -> Scored:
    """Read what `score` wrote; of ``extractors``, in their order.

    Raises:
        UserError: as `read_results` does, or if samples were not scored by one of the extractors.
    """
    found = Scored([], [], [])
    for path in paths:
        [result] = read_results([path], Scores)
        whose = {name: value for name, value in result.items() if name not in SECTIONS}
        by = result["evaluation"]
        if lacking := [name for name in extractors if name not in by]:
            raise UserError(
                path,
                found=f"no scores by {some(lacking)}",
                expected=f"scores by {some(extractors, len(extractors))}",
                remedy=REMEDY,
            )
        found.evaluations.extend(whose | {"extractor": name} | by[name] for name in extractors)
        for rows, section in (
            (found.downstreams, result["downstream"]),
            (found.fidelities, result["fidelity"]),
        ):
            if section is not None:
                rows.append(whose | section)
    return found
