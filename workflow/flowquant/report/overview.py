"""The page that a report opens on: what was run, what came out, with what."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version

import flowquant
from flowquant.report.page import html_table
from flowquant.report.summary import NOTES, SHOWN
from flowquant.report.tables import Row, shown, stored_size

# A headline is about files whose FID is at most so many times full precision's.
NEAR = 1.25
# Longer tables show what nothing beats alone.
MOST_ROWS = 12
COLUMNS = ("variant", "effective_bits", "bytes", "fid", "accuracy")
NUMBERS = ("effective_bits", "bytes", "fid", "accuracy", "n_real")
INTERVALS = ("fid_low", "fid_high", "accuracy_low", "accuracy_high")
# What computes: the versions that a result may depend on.
PACKAGES = ("torch", "torchvision", "torch-fidelity", "numpy", "scipy", "pot", "snakemake")


def versions() -> dict[str, str]:
    """Of this program, Python, and what computes, by name; what is not installed is left out."""
    found = {"flowquant": flowquant.__version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def headline(rows: Sequence[Row]) -> str:
    """The smallest of one dataset's files that draw about as well as full precision."""
    full = next((row for row in rows if row["variant"].is_full), None)
    quantized = [row for row in rows if row["variant"].is_quantized and row["bytes"] is not None]
    if full is None or not quantized:
        return ""
    good = [row for row in quantized if row["fid"] <= NEAR * full["fid"]]
    best = min(good, key=lambda row: (row["bytes"], row["fid"]), default=None)
    if best is None:
        best = min(quantized, key=lambda row: row["fid"])
        found = f"No FID comes within {NEAR - 1:.0%} of full precision's; the nearest is that of"
    else:
        found = f"The smallest file whose FID is at most {NEAR - 1:.0%} above full precision's is"
    text = (
        f"{found} <strong>{escape(best['variant'].label)}</strong>, {best['effective_bits']:.2f} "
        f"bits a weight: FID {best['fid']:.3g} beside {full['fid']:.3g}"
    )
    if best["accuracy"] is not None and full["accuracy"] is not None:
        text += f", accuracy {best['accuracy']:.1%} beside {full['accuracy']:.1%}"
    return f"{text}, in {stored_size(best['bytes'])} instead of {stored_size(full['bytes'])}."


def unbeaten(rows: Sequence[Row]) -> list[Row]:
    """Without the quantized variants that another beats in FID at their size or less."""

    def beaten(row: Row) -> bool:
        return any(
            other["bytes"] <= row["bytes"] and other["fid"] < row["fid"]
            for other in rows
            if other["variant"].is_quantized
        )

    return [row for row in rows if not row["variant"].is_quantized or not beaten(row)]


def headline_table(rows: Sequence[Row]) -> str:
    """One dataset's rows, the largest files first, with intervals where there are any; notes."""
    kept = list(rows) if len(rows) <= MOST_ROWS else unbeaten(rows)
    kept.sort(key=lambda row: (not row["variant"].is_real, -(row["bytes"] or 0), row["variant"]))
    columns = [name for name in COLUMNS if any(row[name] is not None for row in kept)]
    held = [name for name in NOTES if any(name in row["caveats"].split() for row in kept)]
    marks = dict(zip(held, "¹²³⁴⁵⁶", strict=False))

    def cell(row: Row, name: str) -> str:
        if name == "variant":
            noted = "".join(marks.get(caveat, "") for caveat in row["caveats"].split())
            return f"{row['variant'].label} {noted}".rstrip()
        if name == "bytes":
            return "–" if row["bytes"] is None else stored_size(row["bytes"])
        text = shown(row[name], SHOWN[name][1])
        low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
        if low is None or high is None:
            return text
        return f"{text} [{shown(low, SHOWN[name][1])}, {shown(high, SHOWN[name][1])}]"

    titles = {
        "stored size" if name == "bytes" else SHOWN[name][0]: name == "variant" for name in columns
    }
    table = html_table(titles, [[cell(row, name) for name in columns] for row in kept])
    notes = [f"<li>{mark} {escape(NOTES[name])}</li>" for name, mark in marks.items()]
    if len(kept) < len(rows):
        others = len(rows) - len(kept)
        notes.append(
            f"<li>{others} more, each beaten at its size or less, are among the tables</li>"
        )
    return f'<div class="wide">{table}</div>' + (f"<ul>{''.join(notes)}</ul>" if notes else "")


def compared(rows: Sequence[Row]) -> str:
    """What was quantized how: ``uniform at 16, 4 and 2 bits, refined at 2 bits``."""
    widths: dict[str, list[str]] = {}
    for variant in sorted(row["variant"] for row in rows if row["variant"].is_quantized):
        widths.setdefault(variant.method, []).append(f"{variant.bits:g}")
    return "; ".join(
        f"<strong>{escape(method)}</strong> at {_listed(bits)} bit{'' if bits == ['1'] else 's'}"
        for method, bits in widths.items()
    )


def _listed(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def protocol(row: Row) -> str:
    """How a dataset's variants were scored, in a sentence."""
    seeds, extractor = row["seeds"].split(), row["extractor"]
    seen_by = "the run's own classifier" if extractor == "classifier" else escape(extractor)
    return (
        f"{row['n']} samples for each seed of sampling ({', '.join(seeds)}), from the same noise "
        f"and labels for every variant, held against {row['n_real']:,.0f} real test images in the "
        f"features of {seen_by}."
    )


def provenance(facts: Mapping[str, Iterable[str]]) -> str:
    """A table of what a run was made with."""
    rows = [
        f'<tr><th class="text">{escape(name)}</th>'
        f'<td class="text">{escape(", ".join(values))}</td></tr>'
        for name, values in facts.items()
    ]
    return f'<table class="facts"><tbody>{"".join(rows)}</tbody></table>'
