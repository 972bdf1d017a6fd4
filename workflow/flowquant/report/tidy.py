"""A run's results as one tidy table, ``results.csv``: a row for each number that was measured.

Whatever is shown of a run comes from these rows: means over seeds, tables, figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from flowquant.config.variants import Variant
from flowquant.report.tables import Row, read_table
from flowquant.runtime.errors import UserError

# Of the columns, and of what metrics mean; raised with either.
VERSION = "1"
COLUMNS = (
    *("dataset", "variant", "training_seed", "sampling_seed", "extractor", "metric", "value", "n"),
    "version",
)
# Of features of samples, and so with an extractor.
EVALUATION = (
    *("fid", "fid_infinity", "kid_mean", "kid_std", "is_mean", "is_std"),
    *("precision", "recall", "sliced_w2", "evaluations", "features", "n_real"),
)
# What `downstream` calls them; the others' precision and recall are those of images.
DOWNSTREAM = {
    "accuracy": "accuracy",
    "class_precision": "precision",
    "class_recall": "recall",
    "f1": "f1",
}
FIDELITY = ("psnr", "ssim")


def observations(
    evaluations: Iterable[Row],
    downstreams: Iterable[Row] = (),
    fidelities: Iterable[Row] = (),
    sizes: Iterable[Row] = (),
    classifiers: Iterable[Row] = (),
) -> list[Row]:
    """A row of `COLUMNS` for each number in what stages wrote, sorted; what is None has no row.

    ``variant`` is a `Variant`. A seed or an extractor that a metric has none of is None. The metric
    ``fid_at`` is FID of ``n`` of the samples; a file that is no file of ours, but counted, has
    ``counted_bytes`` in place of ``bytes``; and ``accuracy`` of the variant ``real``, without a
    sampling seed, is that of the classifier on real test images.
    """
    found = [
        *(row for result in evaluations for row in _of_evaluation(result)),
        *(_row(r, name, r[key]) for r in downstreams for name, key in DOWNSTREAM.items()),
        *(_row(result, name, result[name]) for result in fidelities for name in FIDELITY),
        *(row for size in sizes for row in _of_size(size)),
        *(
            _row({"dataset": report["dataset"], "variant": Variant("real")}, "accuracy", accuracy)
            for report in classifiers
            if (accuracy := report["test_accuracy"]) is not None
        ),
    ]
    return sorted(found, key=_order)


def read_observations(path: Path, dataset: str) -> list[Row]:
    """The rows of one dataset in a file that holds `observations`.

    Raises:
        UserError: if the file is of another version, or as `read_table` does.
    """
    others = {row["version"] for row in read_table(path, dataset, text=("version",))} - {VERSION}
    if others:
        raise UserError(
            path,
            found=f"results of version {min(others)!r}",
            expected=f"version {VERSION!r}, which this program writes",
            remedy="Run the workflow again to have the file remade, or use the program that wrote "
            "it.",
        )
    rows = read_table(
        path,
        dataset,
        text=("extractor", "metric", "version"),
        numbers=("value",),
        optional=("training_seed", "sampling_seed", "n"),
    )
    for row in rows:
        row |= {"dataset": dataset, "extractor": row["extractor"] or None}
        for name in ("training_seed", "sampling_seed", "n"):
            row[name] = None if row[name] is None else int(row[name])
    return rows


def _row(result: Row, metric: str, value: float, **more: object) -> Row:
    own = {name: result.get(name) for name in ("dataset", "variant", "training_seed", "n")}
    own |= {"sampling_seed": result.get("seed"), "extractor": result.get("extractor")}
    return {"metric": metric, "value": value, "version": VERSION} | own | more


def _of_evaluation(result: Row) -> Iterator[Row]:
    for metric in EVALUATION:
        if result[metric] is not None:
            yield _row(result, metric, result[metric])
    for n, value in result["fid_at"].items():
        yield _row(result, "fid_at", value, n=int(n))


def _of_size(size: Row) -> Iterator[Row]:
    yield _row(size, "effective_bits", size["effective_bits"])
    yield _row(size, "counted_bytes" if size["counted"] else "bytes", size["bytes"])


def _order(row: Row) -> tuple[object, ...]:
    """By what a row is of; the order of metrics is that of the file."""

    def number(name: str) -> int:
        return -1 if row[name] is None else row[name]

    return (
        row["dataset"],
        row["variant"],
        number("training_seed"),
        number("sampling_seed"),
        row["extractor"] or "",
    )
