"""Gather a run's results: two JSON files in the reference's schema, and one table."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flowquant.runtime.files import atomic, read_json, write_json, write_table

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
    "seeds",
    "evaluations",
    "extractor",
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
)

Results = dict[tuple[str, str], list[dict[str, Any]]]


def by_variant(paths: Iterable[Path]) -> Results:
    """Results grouped by (dataset, variant), each group in the order of its seeds."""
    groups: Results = defaultdict(list)
    for path in paths:
        content = read_json(path)
        groups[content["dataset"], content["variant"]].append(content)
    return {name: sorted(found, key=lambda r: r.get("seed", 0)) for name, found in groups.items()}


def average(results: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, Any]:
    """The mean over seeds of each named number; with several seeds also ``<first name>_std``.

    The standard deviation is the sample's (n − 1), over seeds.
    """
    summary: dict[str, Any] = {
        name: statistics.fmean(result[name] for result in results) for name in names
    }
    if len(results) > 1:
        first = names[0]
        summary[f"{first}_std"] = statistics.stdev(result[first] for result in results)
    summary["n"] = results[0]["n"]
    summary["seeds"] = [result["seed"] for result in results]
    return summary


def nest(summaries: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    """(dataset, variant) → the reference's nesting: dataset → full | method → method_Nbit."""
    nested: dict[str, Any] = {}
    for (dataset, variant), summary in summaries.items():
        method, _, width = variant.partition("/")
        place = nested.setdefault(dataset, {})
        if width:
            place.setdefault(method, {})[f"{method}_{width}"] = summary
        else:
            place[variant] = summary
    return nested


def table_row(
    name: tuple[str, str],
    evaluation: dict[str, Any],
    downstream: dict[str, Any],
    size: dict[str, Any],
    classifier: dict[str, Any],
    fidelity: dict[str, Any],
) -> dict[str, Any]:
    """One line of the table; what a variant lacks is left out."""
    dataset, variant = name
    method, _, width = variant.partition("/")
    bits = re.fullmatch(r"(\d+(?:\.\d+)?)bit", width)
    return {
        "dataset": dataset,
        "variant": variant,
        "method": method,
        "bits": bits[1] if bits else ("32" if variant == "full" else None),
        "effective_bits": size.get("effective_bits"),
        "bytes": size.get("bytes"),
        "n": evaluation["n"],
        "seeds": " ".join(str(seed) for seed in evaluation["seeds"]),
        "evaluations": evaluation["evaluations"],
        "extractor": evaluation["extractor"],
        "fid": evaluation["fid"],
        "fid_std": evaluation.get("fid_std"),
        "kid": evaluation["kid_mean"],
        "is": evaluation["is_mean"],
        "precision": evaluation["precision"],
        "recall": evaluation["recall"],
        "accuracy": downstream.get("accuracy"),
        "accuracy_std": downstream.get("accuracy_std"),
        "f1": downstream.get("f1"),
        "real_accuracy": classifier.get("test_accuracy"),
        "psnr": fidelity.get("psnr"),
        "psnr_std": fidelity.get("psnr_std"),
        "ssim": fidelity.get("ssim"),
    }


def mean_evaluations(results: list[dict[str, Any]]) -> float | None:
    """Evaluations of the velocity for an image, over seeds; nothing for real images."""
    counts = [result.get("evaluations") for result in results]
    known = [count for count in counts if count is not None]
    return statistics.fmean(known) if known else None


def _evaluations(rows: list[dict[str, Any]], dataset: str) -> str:
    counts = {row["evaluations"] for row in rows if row["dataset"] == dataset} - {None}
    if not counts:
        return ""
    least, most = f"{min(counts):g}", f"{max(counts):g}"
    return f"{least if least == most else f'{least} to {most}'} evaluations an image, "


def as_markdown(rows: list[dict[str, Any]]) -> str:
    """The table for people: Markdown, rounded."""
    shown: dict[str, tuple[str, str]] = {
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
    # Columns that the configuration left out are not shown empty.
    shown = {name: how for name, how in shown.items() if any(r[name] is not None for r in rows)}
    lines = [
        "| " + " | ".join(title for title, _ in shown.values()) + " |",
        "|" + "|".join(":--" if not style else "--:" for _, style in shown.values()) + "|",
    ]
    for row in rows:
        cells = []
        for name, (_, style) in shown.items():
            text = "–" if row[name] is None else format(row[name], style)
            spread = row.get(f"{name}_std")
            cells.append(text if spread is None else f"{text} ± {format(spread, style)}")
        lines.append("| " + " | ".join(cells) + " |")
    notes = [
        f"- {dataset}: {row['n']} samples a seed, seeds {row['seeds']}, "
        f"{_evaluations(rows, dataset)}features by {row['extractor']}"
        + (
            f"; the classifier is right on {row['real_accuracy']:.1%} of real test images"
            if row["real_accuracy"] is not None
            else ""
        )
        for dataset, row in {row["dataset"]: row for row in rows}.items()
    ]
    return "\n".join([*lines, "", *notes, ""])


def sort_key(name: tuple[str, str]) -> tuple[str, int, str, float]:
    """Datasets by name; the real floor, full precision, then methods by name, widths down."""
    dataset, variant = name
    method, _, width = variant.partition("/")
    rank = {"real": 0, "full": 1}.get(variant, 2)
    return dataset, rank, method, -float(width.removesuffix("bit") or 0)


def collect(
    evaluations: tuple[Path, ...],
    models: tuple[Path, ...],
    evaluation_results: Path,
    downstream_results: Path,
    summary: Path,
    table: Path,
    downstreams: tuple[Path, ...] = (),
    classifiers: tuple[Path, ...] = (),
    fidelities: tuple[Path, ...] = (),
) -> None:
    """Gather results.

    Args:
        evaluations: What `evaluate` wrote for each dataset, variant and seed.
        models: Reports on the size of each variant's file.
        evaluation_results: JSON to write, the reference's ``samples_evaluation_results.json``.
        downstream_results: JSON to write, the reference's ``downstream_results.json``.
        summary: CSV to write, a row for each dataset and variant.
        table: The same as Markdown, for people.
        downstreams: What `downstream` wrote for each dataset, variant and seed.
        classifiers: Reports of the classifiers.
        fidelities: What `fidelity` wrote for each dataset, variant and seed.

    Raises:
        UserError: if a result is unreadable.
    """
    found = by_variant(evaluations)
    names = sorted(found, key=sort_key)
    evaluated = {
        name: average(found[name], EVALUATION)
        | {
            "extractor": found[name][0]["extractor"],
            "evaluations": mean_evaluations(found[name]),
        }
        for name in names
    }
    judged = {
        name: average(results, DOWNSTREAM) for name, results in by_variant(downstreams).items()
    }
    near = {name: average(results, FIDELITY) for name, results in by_variant(fidelities).items()}
    sizes = {name: results[0] for name, results in by_variant(models).items()}
    accuracies = {content["dataset"]: content for content in map(read_json, classifiers)}
    rows = [
        table_row(
            name,
            evaluated[name],
            judged.get(name, {}),
            sizes.get(name, {}),
            accuracies.get(name[0], {}),
            near.get(name, {}),
        )
        for name in names
    ]
    write_json(evaluation_results, nest(evaluated))
    write_json(downstream_results, nest({n: judged[n] for n in names if n in judged}))
    write_table(summary, COLUMNS, rows)
    with atomic(table) as temporary:
        temporary.write_text(as_markdown(rows), encoding="utf-8")
