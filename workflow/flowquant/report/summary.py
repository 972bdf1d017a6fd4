"""A run's results of each variant: means over seeds, the reference's schema, one table."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flowquant.config.variants import Variant
from flowquant.report.caveats import MEANINGS, caveats
from flowquant.report.tables import Row, markdown, shown

EVALUATION = ("fid", "kid_mean", "kid_std", "is_mean", "is_std", "precision", "recall")
FIDELITY = ("psnr", "ssim")
DOWNSTREAM = ("accuracy", "precision", "recall", "f1")
COLUMNS = (
    "dataset",
    "variant",
    "method",
    "bits",
    "effective_bits",
    "bytes",
    "n",
    "n_real",
    "seeds",
    "evaluations",
    "extractor",
    "features",
    "fid",
    "fid_std",
    "kid",
    "is",
    "precision",
    "recall",
    "accuracy",
    "accuracy_std",
    "f1",
    "real_accuracy",
    "psnr",
    "psnr_std",
    "ssim",
    "caveats",
)
# Title and format of the columns that people are shown.
SHOWN = {
    "dataset": ("dataset", ""),
    "variant": ("variant", ""),
    "effective_bits": ("bits a weight", ".2f"),
    "bytes": ("file bytes", ",d"),
    "fid": ("FID", ".2f"),
    "kid": ("KID", ".4f"),
    "is": ("IS", ".3f"),
    "accuracy": ("accuracy", ".3f"),
    "f1": ("F1", ".3f"),
    "psnr": ("PSNR", ".2f"),
    "ssim": ("SSIM", ".3f"),
}
# Of a row whose bytes are no file's of ours.
COUNTED = "counted_bytes"
NOTES = MEANINGS | {
    COUNTED: "by another project's own code; bytes are what it would store, counted without names "
    "and metadata"
}

Name = tuple[str, Variant]


def by_variant(results: Iterable[Row]) -> dict[Name, list[Row]]:
    """Results grouped by (dataset, variant), sorted; each group in the order of its seeds."""
    groups: dict[Name, list[Row]] = defaultdict(list)
    for result in results:
        groups[result["dataset"], result["variant"]].append(result)
    return {name: sorted(groups[name], key=lambda r: r.get("seed", 0)) for name in sorted(groups)}


def average(results: Sequence[Row], names: Sequence[str]) -> Row:
    """The mean over seeds of each named number; with several seeds also ``<first name>_std``.

    The standard deviation is the sample's (n − 1), over seeds.
    """
    values = {name: [result[name] for result in results] for name in names}
    # An extractor without logits has no Inception Score.
    summary: Row = {n: None if None in v else statistics.fmean(v) for n, v in values.items()}
    if len(results) > 1:
        first = names[0]
        summary[f"{first}_std"] = statistics.stdev(result[first] for result in results)
    summary["n"] = results[0]["n"]
    summary["seeds"] = [result["seed"] for result in results]
    return summary


def averages(results: Iterable[Row], names: Sequence[str]) -> dict[Name, Row]:
    """`average` for each dataset and variant."""
    return {name: average(found, names) for name, found in by_variant(results).items()}


def average_evaluations(results: Iterable[Row]) -> dict[Name, Row]:
    """What `evaluate` measured of each dataset and variant, over seeds, and how.

    ``evaluations`` of the velocity for an image are None for real images.
    """
    averaged = {}
    for name, found in by_variant(results).items():
        counts = [count for r in found if (count := r.get("evaluations")) is not None]
        averaged[name] = average(found, EVALUATION) | {
            **{name: found[0][name] for name in ("n_real", "extractor", "features")},
            "evaluations": statistics.fmean(counts) if counts else None,
        }
    return averaged


def nest(summaries: Mapping[Name, Row]) -> dict[str, Any]:
    """(dataset, variant) → the reference's nesting: dataset → full | method → method_Nbit."""
    nested: dict[str, Any] = {}
    for (dataset, variant), summary in summaries.items():
        inner = nested.setdefault(dataset, {})
        if variant.is_quantized:
            method = variant.method
            inner.setdefault(method, {})[f"{method}_{variant.width}"] = summary
        else:
            inner[variant.method] = summary
    return nested


def table_rows(
    evaluated: Mapping[Name, Row],
    judged: Mapping[Name, Row],
    near: Mapping[Name, Row],
    models: Iterable[Row],
    classifiers: Iterable[Row],
    references: Mapping[str, float],
) -> list[Row]:
    """A row of `COLUMNS` for each dataset and variant that was evaluated, None for what it lacks.

    From `average_evaluations`, `averages` of `DOWNSTREAM` and of `FIDELITY`, the reports on
    each variant's file and on the classifiers, and the accuracy 0…1 that each dataset allows.
    """
    sizes = {(model["dataset"], model["variant"]): model for model in models}
    accuracies = {report["dataset"]: report["test_accuracy"] for report in classifiers}
    rows = []
    for (dataset, variant), evaluation in evaluated.items():
        name, bits = (dataset, variant), variant.nominal_bits
        # Precision and recall of images, `evaluate`'s, are shown, not those of classes.
        found = near.get(name, {}) | judged.get(name, {}) | sizes.get(name, {}) | evaluation
        found |= {
            "dataset": dataset,
            "variant": variant,
            "method": variant.method,
            "bits": bits and f"{bits:g}",
            "seeds": " ".join(map(str, evaluation["seeds"])),
            "kid": evaluation["kid_mean"],
            "is": evaluation["is_mean"],
            "real_accuracy": accuracies.get(dataset),
        }
        rows.append({column: found.get(column) for column in COLUMNS})
    for row, held in zip(rows, caveats(rows, references), strict=True):
        size = sizes.get((row["dataset"], row["variant"]), {})
        row["caveats"] = " ".join([*held, *[COUNTED] * size.get("counted", False)])
    return rows


def as_markdown(rows: Sequence[Row]) -> str:
    """The table for people: Markdown, rounded, without the columns that hold nothing."""
    columns = {name: how for name, how in SHOWN.items() if any(r[name] is not None for r in rows)}
    held = {name for row in rows for name in row["caveats"].split()}
    marks = dict(zip([name for name in NOTES if name in held], "¹²³⁴", strict=False))

    def cell(row: Row, name: str) -> str:
        text, spread = shown(row[name], columns[name][1]), row.get(f"{name}_std")
        if name == "variant" and row["caveats"]:
            return f"{text} {''.join(marks[caveat] for caveat in row['caveats'].split())}"
        return text if spread is None else f"{text} ± {format(spread, columns[name][1])}"

    table = markdown(
        [title for title, _ in columns.values()],
        [[cell(row, name) for name in columns] for row in rows],
        left=2,
    )
    notes = [
        f"- {dataset}: {row['n']} samples a seed, seeds {row['seeds']}, "
        f"{_evaluations(rows, dataset)}{row['features']} features by {row['extractor']}"
        + (
            f"; the classifier is right on {row['real_accuracy']:.1%} of real test images"
            if row["real_accuracy"] is not None
            else ""
        )
        for dataset, row in {row["dataset"]: row for row in rows}.items()
    ]
    notes += [f"- {mark} {NOTES[caveat]}" for caveat, mark in marks.items()]
    return "\n".join([table, "", *notes, "", *_at_equal_bytes(rows)])


def _at_equal_bytes(rows: Sequence[Row]) -> list[str]:
    """A table with the best of ours, by FID, beside each peer: of those with no more bits a weight.

    The bits are those of both, without names and metadata.
    """

    def best(peer: Row) -> Row:
        own = (row for row in rows if row["dataset"] == peer["dataset"] and _is_ours(row))
        fitting = (row for row in own if row["effective_bits"] <= peer["effective_bits"])
        return min(fitting, key=lambda row: row["fid"], default=dict.fromkeys(COLUMNS))

    pairs = [(row, best(row)) for row in rows if COUNTED in row["caveats"].split()]
    if not pairs:
        return []
    shared = ("bits a weight", "FID")
    cells = [
        [peer["dataset"]]
        + [
            cell
            for row in (peer, own)
            for cell in (
                str(row["variant"] or "–"),
                shown(row["effective_bits"], ".2f"),
                shown(row["fid"], ".2f"),
            )
        ]
        for peer, own in sorted(
            pairs, key=lambda pair: (pair[0]["dataset"], pair[0]["effective_bits"])
        )
    ]
    titles = ["dataset", "peer", *shared, "the best here at no more bits", *shared]
    return [markdown(titles, cells, left=2), ""]


def _is_ours(row: Row) -> bool:
    return row["variant"].is_quantized and COUNTED not in row["caveats"].split()


def _evaluations(rows: Sequence[Row], dataset: str) -> str:
    counts = {row["evaluations"] for row in rows if row["dataset"] == dataset} - {None}
    if not counts:
        return ""
    least, most = f"{min(counts):g}", f"{max(counts):g}"
    return f"{least if least == most else f'{least} to {most}'} evaluations an image, "
