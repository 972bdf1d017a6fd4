"""The baseline and this project at the same work: in numbers, and as a page for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flowquant.benchmark import packed
from flowquant.benchmark.timing import Timing
from flowquant.report.tables import markdown, shown


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
        own_shapes: The ceiling of the network's products in the project's batch, if it has one.
    """

    what: str
    count: int
    unit: str
    baseline: Duration
    project: Duration
    own_shapes: Mapping[str, Any] | None = None


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
                content["of_own_shapes"] = duration.tflops / comparison.own_shapes["tflops"]
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
    titles = ["what", "published way", "this project", "times faster", "TFLOP/s"]
    notes: dict[str, int] = {}

    def speed(row: Mapping[str, Any], way: str) -> str:
        unit, measured = row["unit"], row[way]
        text = f"{_number(measured['seconds' if unit == 's' else unit])} {unit}"
        if (origin := measured["extrapolated_from"]) is None:
            return text
        return f"{text} [{notes.setdefault(origin, len(notes) + 1)}]"

    cells = [
        [
            row["what"],
            speed(row, "published"),
            speed(row, "project"),
            _number(row["times_faster"]),
            shown(row["project"].get("tflops"), ".3g"),
            shown(row["project"].get("of_matrix_ceiling"), ".1%"),
            shown(row["project"].get("of_own_shapes"), ".1%"),
        ]
        for row in rows
    ]
    table = markdown([*titles, "of matrix ceiling", "of own shapes"], cells, padded=True)
    explained = [f"- [{number}] extrapolated from {origin}" for origin, number in notes.items()]
    return "\n".join([table, "", *explained])


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
            "One evaluation of the network while sampling, median ± distance of quartiles:",
            "",
            packed.as_markdown(report["evaluations"]),
            "",
            "- this project samples in a process of its own, on a GPU without cuBLAS's workspaces, "
            "as the stage `sample` does",
            f"- TFLOP/s and shares are this project's, of matrix products "
            f"({report['network']['flops_an_image'] / 1e9:.3g} GFLOP an image forward, backward "
            "twice that); those of the published way are in the JSON",
            f"- matrix ceiling: {matrix['tflops']:.3g} TFLOP/s, {matrix['dtype']} "
            f"{square}×{square}×{square}, in the same run",
            *(
                f"- own shapes, {name}: {ceilings[name]['tflops']:.3g} TFLOP/s, the network's "
                f"large forward products for {ceilings[name]['images']} images by themselves"
                for name in ("training", "sampling", "fp8")
                if name in ceilings
            ),
            "",
        ]
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
