"""Differences of FID between variants that share trained models, noise and labels."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from flowquant.config.comparisons import ComparisonsSection, Level
from flowquant.config.variants import Variant
from flowquant.report.certainty import fids, over_seeds
from flowquant.report.intervals import Measured, interval
from flowquant.report.tables import Row, markdown, shown
from flowquant.runtime.errors import UserError, some

COLUMNS = (
    *("dataset", "extractor", "variant", "other", "difference", "ratio", "low", "high", "p"),
    *("fid", "other_fid", "effective_bits", "other_effective_bits"),
    *("n", "training_seeds", "sampling_seeds", "over"),
)
# What two variants' samples have in common if they were drawn alike and scored alike.
SHARED = ("n", "start", "weights_sha256")

Pair = tuple[Variant, Variant]


def usual_pairs(
    bits: Mapping[Variant, float],
    means: Mapping[Variant, float],
    papers: Collection[str],
    peers: Collection[str],
) -> list[Pair]:
    """The pairs that matter, each once, sorted.

    Each quantized variant with full precision. Each of our methods' with those of each method of
    the paper and of each peer: that of its width, and the smallest that is not smaller. And with
    each peer's the best of all others that is not larger.

    Args:
        bits: Effective bits of each variant.
        means: FID of each.
        papers: Methods of the paper.
        peers: Methods of other projects.
    """
    full = Variant("full")
    quantized = [variant for variant in sorted(bits) if variant.is_quantized]
    pairs = {(variant, full) for variant in quantized if full in means}
    ours = [variant for variant in quantized if variant.method not in {*papers, *peers}]
    for baseline in (*papers, *peers):
        rivals = [variant for variant in quantized if variant.method == baseline]
        for variant in ours:
            pairs |= {(variant, rival) for rival in rivals if rival.bits == variant.bits}
            larger = (rival for rival in rivals if bits[rival] >= bits[variant])
            if (nearest := min(larger, key=bits.__getitem__, default=None)) is not None:
                pairs.add((variant, nearest))
    for peer in (variant for variant in quantized if variant.method in peers):
        fitting = [v for v in quantized if v.method not in peers and bits[v] <= bits[peer]]
        if fitting:
            pairs.add((min(fitting, key=means.__getitem__), peer))
    return sorted(pairs)


def comparison_rows(
    evaluations: Mapping[Variant, Sequence[Row]],
    bits: Mapping[Variant, float],
    settings: ComparisonsSection,
    papers: Collection[str],
    peers: Collection[str],
) -> list[Row]:
    """A row of `COLUMNS` for each pair.

    Args:
        evaluations: What `evaluate` wrote of each variant of one dataset, by one extractor.
        bits: Effective bits of each variant.
        settings: Which pairs, and over what their intervals are.
        papers: Methods of the paper.
        peers: Methods of other projects.

    Raises:
        UserError: if a variant was not evaluated, was not paired with the other or is not complete,
            or there are too few seeds.
    """
    means = {
        variant: sum(result["fid"] for result in found) / len(found)
        for variant, found in evaluations.items()
    }
    known = {variant: size for variant, size in bits.items() if variant in means}
    pairs = usual_pairs(known, means, papers, peers) if settings.usual else []
    for names in settings.pairs:
        pair = Variant.parse(names[0], "comparisons.pairs"), Variant.parse(names[1])
        if pair not in pairs:
            pairs.append(pair)
    return [_row(pair, evaluations, bits, settings.over) for pair in pairs]


def _row(
    pair: Pair,
    evaluations: Mapping[Variant, Sequence[Row]],
    bits: Mapping[Variant, float],
    asked: Collection[Level] | None,
) -> Row:
    ours, theirs = (_grid(variant, evaluations) for variant in pair)
    _check_pair(pair, ours, theirs)
    a, b = _fids(pair[0], ours), _fids(pair[1], theirs)
    difference = a - b
    over = _levels(pair, difference, asked)
    reach = interval(difference, over)
    first = ours[0][0]
    return {
        "dataset": first["dataset"],
        "extractor": first["extractor"],
        "variant": pair[0],
        "other": pair[1],
        "difference": difference.mean,
        "ratio": a.mean / b.mean if b.mean > 0 else None,
        "low": reach and reach.low,
        "high": reach and reach.high,
        "p": reach and reach.p,
        "fid": a.mean,
        "other_fid": b.mean,
        "effective_bits": bits.get(pair[0]),
        "other_effective_bits": bits.get(pair[1]),
        "n": first["n"],
        "training_seeds": " ".join(str(row[0]["training_seed"] or 0) for row in ours),
        "sampling_seeds": " ".join(str(result["seed"]) for result in ours[0]),
        "over": _in_words(over),
    }


def _grid(variant: Variant, evaluations: Mapping[Variant, Sequence[Row]]) -> list[list[Row]]:
    if variant not in evaluations:
        raise UserError(
            "comparisons.pairs",
            found=f"'{variant}'",
            expected=f"one of {some([str(known) for known in evaluations])}",
            remedy="Name a variant that was evaluated.",
        )
    grid = over_seeds(evaluations[variant])
    if grid is None:
        raise _apart(variant, "results of other sampling seeds from one training seed to another")
    return grid


def _fids(variant: Variant, grid: list[list[Row]]) -> Measured:
    measured = fids(grid)
    if measured is None:
        raise _apart(variant, "more resamples of one seed than of another")
    return measured


def _check_pair(pair: Pair, ours: list[list[Row]], theirs: list[list[Row]]) -> None:
    """Refuse to pair samples of other models, noise, labels or features."""
    if _seeds(ours) != _seeds(theirs):
        raise _apart(pair[0], f"results of other seeds than of '{pair[1]}'")
    for a, b in zip(_results(ours), _results(theirs), strict=True):
        unlike = [name for name in SHARED if a[name] != b[name]]
        if len(a["fid_resampled"]) != len(b["fid_resampled"]):
            unlike.append("fid_resampled")
        if unlike:
            raise _apart(
                pair[0],
                f"another {some(unlike)} than of '{pair[1]}', seed {a['seed']}",
            )


def _results(grid: list[list[Row]]) -> Iterator[Row]:
    return (result for row in grid for result in row)


def _seeds(grid: list[list[Row]]) -> list[tuple[int, int]]:
    return [(result["training_seed"] or 0, result["seed"]) for result in _results(grid)]


def _apart(variant: Variant, found: str) -> UserError:
    return UserError(
        f"the evaluations of '{variant}'",
        found=found,
        expected="the same training seeds, sampling seeds, noise and labels of both",
        remedy="Evaluate both variants in one run, or leave the pair out of `comparisons`.",
    )


def _levels(pair: Pair, difference: Measured, asked: Collection[Level] | None) -> tuple[Level, ...]:
    there = difference.levels
    if asked is None:
        return there
    if lacking := [level for level in asked if level not in there]:
        raise UserError(
            "comparisons.over",
            found=f"'{lacking[0]}', of which '{pair[0]}' has but one",
            expected="two or more, which an interval takes",
            remedy=f"Evaluate more, or take '{lacking[0]}' out of `comparisons.over`.",
        )
    return tuple(level for level in there if level in asked)


def _in_words(over: Sequence[Level]) -> str:
    """``samples, sampling seeds and training seeds``."""
    return " and ".join(filter(None, [", ".join(over[:-1]), *over[-1:]]))


def as_markdown(rows: Sequence[Row]) -> str:
    """A table for people for each dataset and extractor."""
    lines = [
        "# Differences of FID",
        "",
        "Paired: both variants have the same trained models, noise and labels. In brackets 95 % "
        "intervals; p is of each pair by itself, not corrected for the number of pairs.",
    ]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["dataset"], row["extractor"]), []).append(row)
    for (dataset, extractor), own in groups.items():
        first = own[0]
        over = f"; intervals over {first['over']}" if first["over"] else ""
        lines += [
            "",
            f"## {dataset}, features by {extractor}",
            "",
            f"{first['n']} samples a seed, sampling seeds {first['sampling_seeds']}, training "
            f"seeds {first['training_seeds']}{over}.",
            "",
            markdown(
                [
                    "variant",
                    "other",
                    "bits a weight",
                    "other's",
                    "FID",
                    "other's",
                    "difference",
                    "p",
                ],
                [_cells(row) for row in own],
                left=2,
            ),
        ]
    return "\n".join([*lines, ""])


def _cells(row: Row) -> list[str]:
    difference = f"{row['difference']:+.2f}"
    if row["low"] is not None:
        difference += f" [{row['low']:+.2f}, {row['high']:+.2f}]"
    tiny = row["p"] is not None and row["p"] < 0.001
    return [
        str(row["variant"]),
        str(row["other"]),
        shown(row["effective_bits"], ".2f"),
        shown(row["other_effective_bits"], ".2f"),
        shown(row["fid"], ".2f"),
        shown(row["other_fid"], ".2f"),
        difference,
        "< 0.001" if tiny else shown(row["p"], ".3f"),
    ]
