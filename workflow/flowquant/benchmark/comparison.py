"""The baseline and this project at the same work: in numbers, and as a page for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flowquant.benchmark.timing import Timing


@dataclass(frozen=True)
class Duration:
    """How long some work took.

    Attributes:
        seconds: Of the whole work, measured or extrapolated.
        timing: What was timed.
        flops: Of the whole work, if they are known.
        extrapolated_from: What was timed in place of the whole work; None if it was all of it.
    """

    seconds: float
    timing: Timing
    flops: int | None = None
    extrapolated_from: str | None = None

    @property
    def tflops(self) -> float | None:
        """TFLOP/s."""
        return None if self.flops is None else self.flops / self.seconds / 1e12


@dataclass(frozen=True)
class Comparison:
    """The same work by the baseline, the published way, and by this project.

    Attributes:
        what: The work.
        count: How many images or steps the work makes, for its rate.
        unit: Of the rate, such as ``images/s``; ``s`` for work that is given in seconds.
        baseline: How long the baseline takes.
        project: How long this project takes.
        own_shapes: TFLOP/s of the network's products in batches of the project's size.
    """

    what: str
    count: int
    unit: str
    baseline: Duration
    project: Duration
    own_shapes: float | None = None


def as_row(comparison: Comparison, matrix: float) -> dict[str, Any]:
    """A comparison in numbers, beside the ceilings in TFLOP/s."""

    def described(duration: Duration) -> dict[str, Any]:
        content: dict[str, Any] = {"seconds": duration.seconds}
        if comparison.unit != "s":
            content[comparison.unit] = comparison.count / duration.seconds
        if duration.tflops is not None:
            content["tflops"] = duration.tflops
            content["of_matrix_ceiling"] = duration.tflops / matrix
            if comparison.own_shapes is not None:
                content["of_own_shapes"] = duration.tflops / comparison.own_shapes
        return content | {
            "extrapolated_from": duration.extrapolated_from,
            "timed": asdict(duration.timing),
        }

    return {
        "what": comparison.what,
        "unit": comparison.unit,
        "published": described(comparison.baseline),
        "project": described(comparison.project),
        "times_faster": comparison.baseline.seconds / comparison.project.seconds,
    }


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table, and under it what was extrapolated from what."""
    names = ("what", "published way", "this project", "times faster", "TFLOP/s")
    lines = [[*names, "of matrix ceiling", "of own shapes"]]
    notes: dict[str, int] = {}

    def speed(row: Mapping[str, Any], way: str) -> str:
        shown = (
            f"{_number(row[way]['seconds' if row['unit'] == 's' else row['unit']])} {row['unit']}"
        )
        if row[way]["extrapolated_from"] is None:
            return shown
        note = f"from {row[way]['extrapolated_from']}"
        return f"{shown} [{notes.setdefault(note, len(notes) + 1)}]"

    for row in rows:
        project = row["project"]
        lines.append(
            [
                row["what"],
                speed(row, "published"),
                speed(row, "project"),
                _number(row["times_faster"]),
                _shown(project.get("tflops"), ".3g"),
                _shown(project.get("of_matrix_ceiling"), ".1%"),
                _shown(project.get("of_own_shapes"), ".1%"),
            ]
        )
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    marks = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    table = [
        "| "
        + " | ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in (lines[0], marks, *lines[1:])
    ]
    explained = [f"- [{number}] extrapolated {note}" for note, number in notes.items()]
    return "\n".join([*table, "", *explained])


def as_page(report: Mapping[str, Any]) -> str:
    """A report of the stage `benchmark` as Markdown: machine, model, table and ceilings."""
    precision, ceilings = report["precision"], report["ceilings"]
    matrix, square = ceilings["matrix"], ceilings["matrix"]["products"][0]["rows"]
    return "\n".join(
        [
            f"# {report['dataset']}: the published way and this project, on one device",
            "",
            f"{report['device']}, torch {report['torch']}, {report['threads']} CPU threads; "
            f"{report['network']['parameters']:,} parameters, random weights and images. "
            f"Published way: eager {precision['published']}; this project: "
            f"training {precision['training']}, sampling {precision['sampling']}.",
            "",
            as_markdown(report["rows"]),
            f"- TFLOP/s and shares are this project's, of matrix products "
            f"({report['network']['flops_an_image'] / 1e9:.3g} GFLOP an image forward, backward "
            "twice that); those of the published way are in the JSON",
            f"- matrix ceiling: {matrix['tflops']:.3g} TFLOP/s, {matrix['dtype']} "
            f"{square}×{square}×{square}, in the same run",
            *(
                f"- own shapes, {name}: {ceilings[name]['tflops']:.3g} TFLOP/s, the encoder's "
                f"forward products for {ceilings[name]['images']} images by themselves"
                for name in ("training", "sampling")
            ),
            "",
        ]
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _shown(value: float | None, style: str) -> str:
    return "–" if value is None else format(value, style)
