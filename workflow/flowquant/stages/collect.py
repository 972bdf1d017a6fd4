"""Gather a run's results: two JSON files in the reference's schema, and one table."""

from dataclasses import asdict
from pathlib import Path

from flowquant.config.extractors import ExtractorName
from flowquant.report.caveats import MEANINGS, warn
from flowquant.report.results import Downstream, Evaluation, Fidelity, Judge, Size
from flowquant.report.summary import (
    COLUMNS,
    DOWNSTREAM,
    FIDELITY,
    as_markdown,
    average_evaluations,
    averages,
    nest,
    table_rows,
)
from flowquant.report.tables import read_results, write_table
from flowquant.runtime.files import read_json, write_json, write_text


def collect(
    evaluations: tuple[Path, ...],
    models: tuple[Path, ...],
    extractor: ExtractorName,
    evaluation_results: Path,
    downstream_results: Path,
    summary: Path,
    table: Path,
    downstreams: tuple[Path, ...] = (),
    classifiers: tuple[Path, ...] = (),
    fidelities: tuple[Path, ...] = (),
    references: tuple[float, ...] = (),
) -> None:
    """Gather results.

    Args:
        evaluations: What `evaluate` wrote for each dataset, variant, seed and extractor.
        models: Reports on the size of each variant's file.
        extractor: By whose features the table and the JSON compare.
        evaluation_results: JSON to write, the reference's ``samples_evaluation_results.json``.
        downstream_results: JSON to write, the reference's ``downstream_results.json``.
        summary: CSV to write, a row for each dataset and variant.
        table: The same as Markdown, for people.
        downstreams: What `downstream` wrote for each dataset, variant and seed.
        classifiers: Reports of the classifiers.
        fidelities: What `fidelity` wrote for each dataset, variant and seed.
        references: The accuracy 0…1 that the dataset of each classifier allows; 1 without.
    """
    seen = read_results(evaluations, Evaluation)
    evaluated = average_evaluations(row for row in seen if row["extractor"] == extractor)
    judged = averages(read_results(downstreams, Downstream), DOWNSTREAM)
    near = averages(read_results(fidelities, Fidelity), FIDELITY)
    sizes = read_results(models, Size)
    accuracies = [asdict(read_json(path, Judge)) for path in classifiers]
    named = (report["dataset"] for report in accuracies)
    allowed = dict(zip(named, references, strict=False))
    rows = table_rows(evaluated, judged, near, sizes, accuracies, allowed)
    for row in rows:
        for caveat in row["caveats"].split():
            if caveat in MEANINGS:
                warn(f"{row['dataset']}, {row['variant']}", caveat)
    write_json(evaluation_results, nest(evaluated))
    write_json(downstream_results, nest({n: judged[n] for n in evaluated if n in judged}))
    write_table(summary, COLUMNS, rows)
    write_text(table, as_markdown(rows))
