"""A run's results of each variant: means over seeds, the reference's schema, one table."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flowquant.config.variants import Variant
from flowquant.report.caveats import MEANINGS, caveats
from flowquant.report.certainty import Key
from flowquant.report.tables import Row, markdown, shown
from flowquant.report.tidy import DOWNSTREAM, EVALUATION, FIDELITY

COLUMNS = (
    *("dataset", "variant", "method", "bits", "effective_bits", "bytes"),
    *("n", "n_real", "training_seeds", "seeds", "evaluations", "extractor", "features"),
    *("fid", "fid_std", "fid_low", "fid_high", "over", "fid_infinity", "sliced_w2"),
    *("kid", "kid_low", "kid_high", "is", "precision", "recall"),
    *("accuracy", "accuracy_std", "accuracy_low", "accuracy_high", "f1", "real_accuracy"),
    *("psnr", "psnr_std", "ssim", "caveats"),
)
# Of the table's columns, what `results.csv` calls otherwise.
RENAMED = {"kid": "kid_mean", "is": "is_mean"}
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
# Below every table that shows such a file, and below every table.
LARGER = (
    "- a file can be larger than full precision's: where a tensor has fewer values than an index "
    "has levels, each value has a level of its own, and the indices come on top"
)
ELSEWHERE = (
    "- another machine rounds otherwise: there, variants near full precision come out nearly the "
    "same, those that fail do not (the digits' ot/2bit had accuracies of 0.290 and 0.358 on two)"
)

Name = tuple[str, Variant]


def by_variant(observed: Iterable[Row]) -> dict[Name, list[Row]]:
    """Rows of `tidy.COLUMNS` by (dataset, variant), sorted."""
    groups: dict[Name, list[Row]] = defaultdict(list)
    for row in observed:
        groups[row["dataset"], row["variant"]].append(row)
    return {name: groups[name] for name in sorted(groups)}


def average(rows: Sequence[Row], extractor: str | None, metrics: Sequence[str]) -> Row:
    """The mean over seeds of what was measured of one variant's samples, by one extractor.

    Of the first metric, with several values, also ``<metric>_std``, the sample's standard deviation
    (n − 1); of all, ``n`` samples a seed, ``seeds`` and ``training_seeds``. Metrics that nothing
    was measured of are missing, and there is nothing at all where that is the first.
    """
    own = [r for r in rows if r["extractor"] == extractor and r["sampling_seed"] is not None]
    values = {name: [r["value"] for r in own if r["metric"] == name] for name in metrics}
    first = metrics[0]
    if not values[first]:
        return {}
    found: Row = {name: statistics.fmean(value) for name, value in values.items() if value}
    if len(values[first]) > 1:
        found[f"{first}_std"] = statistics.stdev(values[first])
    of_first = [row for row in own if row["metric"] == first]
    found["n"] = of_first[0]["n"]
    for seeds, name in (("seeds", "sampling_seed"), ("training_seeds", "training_seed")):
        found[seeds] = sorted({row[name] for row in of_first if row[name] is not None})
    return found


def evaluated(observed: Iterable[Row], extractor: str) -> dict[Name, Row]:
    """What one extractor saw of each variant's samples.

    ``evaluations`` of the velocity for an image are None for real images.
    """
    averages = {
        name: average(rows, extractor, EVALUATION) for name, rows in by_variant(observed).items()
    }
    return {
        name: {"evaluations": None}
        | found
        | {"extractor": extractor}
        | {count: round(found[count]) for count in ("features", "n_real")}
        for name, found in averages.items()
        if found
    }


def judged(observed: Iterable[Row]) -> dict[Name, Row]:
    """What the classifier says of each variant's samples, by the names of `downstream`."""
    averages = {
        name: average(rows, None, tuple(DOWNSTREAM)) for name, rows in by_variant(observed).items()
    }
    return {
        name: {DOWNSTREAM.get(metric, metric): value for metric, value in found.items()}
        for name, found in averages.items()
        if found
    }


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
    observed: Sequence[Row],
    extractors: Sequence[str],
    certain: Mapping[Key, Row],
    references: Mapping[str, float],
) -> list[Row]:
    """A row of `COLUMNS` for each dataset, extractor and variant, None for what it lacks.

    Args:
        observed: Rows of `tidy.COLUMNS`.
        extractors: In which order; the first is that of figures.
        certain: What `certainty.intervals` found.
        references: The accuracy 0…1 that each dataset allows.
    """
    groups, scores = by_variant(observed), judged(observed)
    seen = [evaluated(observed, extractor) for extractor in extractors]
    found = []
    for dataset in dict.fromkeys(name for name, _ in groups):
        for evaluations in seen:
            rows = [
                _row(name, evaluation, groups, scores, certain)
                for name, evaluation in evaluations.items()
                if name[0] == dataset
            ]
            for row, held in zip(rows, caveats(rows, references), strict=True):
                row["caveats"] = " ".join([*held, *[COUNTED] * row["caveats"]])
            found += rows
    return found


def _row(
    name: Name,
    evaluation: Row,
    groups: Mapping[Name, Sequence[Row]],
    scores: Mapping[Name, Row],
    certain: Mapping[Key, Row],
) -> Row:
    """A row of the table, whose caveats are as yet whether its bytes are counted."""
    dataset, variant = name
    own, bits = groups[name], variant.nominal_bits
    real = groups.get((dataset, Variant("real")), [])
    accuracies = [r["value"] for r in real if r["metric"] == "accuracy"]
    # Packed files of several trained models differ a little.
    sizes = {
        metric: [row["value"] for row in own if row["metric"] == metric]
        for metric in ("effective_bits", "bytes", "counted_bytes")
    }
    size = {metric: statistics.fmean(values) for metric, values in sizes.items() if values}
    stored = size.get("bytes", size.get("counted_bytes"))
    found = (
        average(own, None, FIDELITY)
        | scores.get(name, {})
        | certain.get((*name, None), {})
        # Precision and recall of images, `evaluate`'s, are shown, not those of classes.
        | evaluation
        | certain.get((*name, evaluation["extractor"]), {})
        | {column: evaluation.get(metric) for column, metric in RENAMED.items()}
    )
    found |= {
        "dataset": dataset,
        "variant": variant,
        "method": variant.method,
        "bits": bits and f"{bits:g}",
        "effective_bits": size.get("effective_bits"),
        "bytes": stored and round(stored),
        "seeds": " ".join(map(str, evaluation["seeds"])),
        "training_seeds": " ".join(map(str, evaluation["training_seeds"])),
        "real_accuracy": accuracies[0] if accuracies else None,
        "caveats": "counted_bytes" in size,
    }
    return {column: found.get(column) for column in COLUMNS}


def as_markdown(rows: Sequence[Row]) -> str:
    """A table for people for each extractor: Markdown, rounded, without empty columns.

    Of a dataset, the largest files stand first, after what has none.
    """
    rows = sorted(rows, key=lambda row: (row["dataset"], -(row["bytes"] or math.inf)))
    extractors = list(dict.fromkeys(row["extractor"] for row in rows))
    parts = [_table([r for r in rows if r["extractor"] == name]) for name in extractors]
    if len(extractors) > 1:
        titles = [f"Features by {extractor}:" for extractor in extractors]
        parts = [f"{title}\n\n{part}" for title, part in zip(titles, parts, strict=True)]
    return "\n".join(parts)


def _table(rows: Sequence[Row]) -> str:
    columns = {name: how for name, how in SHOWN.items() if any(r[name] is not None for r in rows)}
    held = {name for row in rows for name in row["caveats"].split()}
    marks = dict(zip([name for name in NOTES if name in held], "¹²³⁴", strict=False))

    def cell(row: Row, name: str) -> str:
        text, style = shown(row[name], columns[name][1]), columns[name][1]
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        if name == "variant" and row["caveats"]:
            return f"{text} {''.join(marks[caveat] for caveat in row['caveats'].split())}"
        if low is not None and high is not None:
            return f"{text} [{format(low, style)}, {format(high, style)}]"
        spread = row.get(f"{name}_std")
        return text if spread is None else f"{text} ± {format(spread, style)}"

    table = markdown(
        [title for title, _ in columns.values()],
        [[cell(row, name) for name in columns] for row in rows],
        left=2,
    )
    notes = [
        f"- {dataset}: {row['n']} samples a seed, seeds {row['seeds']}, "
        + (f"of training {row['training_seeds']}, " if " " in row["training_seeds"] else "")
        + f"{_evaluations(rows, dataset)}{row['features']} features by {row['extractor']}"
        + (f"; in brackets 95 % intervals, of FID over {row['over']}" if row["over"] else "")
        + (
            f"; the classifier is right on {row['real_accuracy']:.1%} of real test images"
            if row["real_accuracy"] is not None
            else ""
        )
        for dataset, row in {row["dataset"]: row for row in rows}.items()
    ]
    notes += [f"- {mark} {NOTES[caveat]}" for caveat, mark in marks.items()]
    full = {row["dataset"]: row["bytes"] for row in rows if row["variant"] == Variant("full")}
    if any((row["bytes"] or 0) > (full.get(row["dataset"]) or math.inf) for row in rows):
        notes.append(LARGER)
    notes.append(ELSEWHERE)
    return "\n".join([table, "", *notes, ""])


def _evaluations(rows: Sequence[Row], dataset: str) -> str:
    counts = {row["evaluations"] for row in rows if row["dataset"] == dataset} - {None}
    if not counts:
        return ""
    least, most = f"{min(counts):g}", f"{max(counts):g}"
    return f"{least if least == most else f'{least} to {most}'} evaluations an image, "
