"""Gather a run's results: all of them in one tidy table, and what readers want to see of them."""

from dataclasses import asdict
from pathlib import Path

from flowquant.config.extractors import ExtractorName
from flowquant.report.caveats import MEANINGS, warn
from flowquant.report.certainty import intervals
from flowquant.report.results import Judge, Size
from flowquant.report.scores import read_scores
from flowquant.report.summary import COLUMNS, as_markdown, evaluated, judged, nest, table_rows
from flowquant.report.tables import read_results, write_table
from flowquant.report.tidy import COLUMNS as TIDY
from flowquant.report.tidy import observations
from flowquant.runtime.files import read_json, write_json, write_text


def collect(
    scores: tuple[Path, ...],
    models: tuple[Path, ...],
    extractors: tuple[ExtractorName, ...],
    results: Path,
    evaluation_results: Path,
    downstream_results: Path,
    summary: Path,
    table: Path,
    classifiers: tuple[Path, ...] = (),
    references: tuple[float, ...] = (),
) -> None:
    """Gather results.

    Args:
        scores: What `score` wrote for each model, variant and seed.
        models: Reports on the size of each variant's file.
        extractors: Which results are of, in the order of tables; the JSON files are of the first.
        results: CSV to write, a row for each number that was measured.
        evaluation_results: JSON to write, the reference's ``samples_evaluation_results.json``.
        downstream_results: JSON to write, the reference's ``downstream_results.json``.
        summary: CSV to write, a row for each dataset, extractor and variant.
        table: The same as Markdown, for people.
        classifiers: Reports of the classifiers.
        references: The accuracy 0…1 that the dataset of each classifier allows; 1 without.
    """
    scored, sizes = read_scores(scores, extractors), read_results(models, Size)
    accuracies = [asdict(read_json(path, Judge)) for path in classifiers]
    allowed = dict(zip((judge["dataset"] for judge in accuracies), references, strict=False))
    observed = observations(
        scored.evaluations, scored.downstreams, scored.fidelities, sizes, accuracies
    )
    certain = intervals(scored.evaluations, scored.downstreams)
    rows = table_rows(observed, extractors, certain, allowed)
    for row in rows:
        for caveat in row["caveats"].split():
            if caveat in MEANINGS:
                warn(f"{row['dataset']}, {row['variant']}", caveat)
    write_table(results, TIDY, observed)
    write_json(evaluation_results, nest(evaluated(observed, extractors[0])))
    write_json(downstream_results, nest(judged(observed)))
    write_table(summary, COLUMNS, rows)
    write_text(table, as_markdown(rows))
