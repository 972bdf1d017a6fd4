"""Compare variants by FID, pair by pair, with intervals and p-values."""

import statistics
from collections import defaultdict
from pathlib import Path

from flowquant.config.comparisons import ComparisonsSection
from flowquant.config.extractors import ExtractorName
from flowquant.config.variants import Variant
from flowquant.report.comparisons import COLUMNS, as_markdown, comparison_rows
from flowquant.report.scores import read_scores
from flowquant.report.tables import Row, write_table
from flowquant.report.tidy import read_observations
from flowquant.runtime.files import write_text


def compare(
    scores: tuple[Path, ...],
    extractors: tuple[ExtractorName, ...],
    results: Path,
    output: Path,
    table: Path,
    settings: ComparisonsSection,
    papers: tuple[str, ...] = (),
    peers: tuple[str, ...] = (),
) -> None:
    """Compare the FIDs of variants that share trained models, noise and labels.

    Args:
        scores: What `score` wrote for each model, variant and seed.
        extractors: Of whose features FIDs are, in the order of tables.
        results: The table of all results that `collect` wrote, which has the variants' sizes.
        output: CSV to write, a row for each pair: the difference of FID, its 95 % interval and p.
        table: The same as Markdown, for people.
        settings: Which pairs, and over what intervals are drawn.
        papers: Names of the paper's methods.
        peers: Names of other projects' methods.

    Raises:
        UserError: if files do not belong together, or are of another version.
    """
    groups: dict[tuple[str, str], dict[Variant, list[Row]]] = {}
    for result in read_scores(scores, extractors).evaluations:
        own = groups.setdefault((result["dataset"], result["extractor"]), defaultdict(list))
        if not result["variant"].is_real:
            own[result["variant"]].append(result)
    rows = []
    for (dataset, _), own in groups.items():
        rows += comparison_rows(own, _sizes(results, dataset), settings, papers, peers)
    write_table(output, COLUMNS, rows)
    write_text(table, as_markdown(rows))


def _sizes(results: Path, dataset: str) -> dict[Variant, float]:
    """Effective bits of a dataset's variants, of several trained models on average."""
    found: dict[Variant, list[float]] = defaultdict(list)
    for row in read_observations(results, dataset):
        if row["metric"] == "effective_bits":
            found[row["variant"]].append(row["value"])
    return {variant: statistics.fmean(values) for variant, values in found.items()}
