"""What theory says against what was measured: decay of W₂ per bit, ρ(b), FID against W₂."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from flowquant.config.variants import Variant
from flowquant.report.look import REFERENCE_LINE, method_style, place
from flowquant.report.ranking import rank_correlation
from flowquant.report.style import WIDTH, legend_below, logarithmic
from flowquant.report.tables import Row, markdown, shown

# Widths between which the decay of the squared error is fitted: 2^(−2b) would be 2 bits a bit.
FITTED = (2, 6)


def relative_error(result: Row, key: str) -> float:
    """Σ n·error ÷ Σ n·variance over the quantized tensors, error W₂² or the mean squared error."""
    tensors = result["tensors"].values()
    square = 2 if key == "w2" else 1
    error = sum(tensor["values"] * tensor[key] ** square for tensor in tensors)
    return float(error / max(sum(t["values"] * t["variance"] for t in tensors), 1e-300))


def decay(errors: Mapping[float, float]) -> float | None:
    """Bits of log₂ squared error lost a bit of width, by least squares over `FITTED` widths."""
    points = [
        (bits, math.log2(error))
        for bits, error in errors.items()
        if FITTED[0] <= bits <= FITTED[1] and error > 0
    ]
    if len(points) < 2:
        return None
    bits, logs = np.array(points).T
    return float(-np.polyfit(bits, logs, 1)[0])


def summarise(results: Sequence[Row], fids: Mapping[Variant, float]) -> dict[str, Any]:
    """The numbers of table and plot, from what `distances` wrote of one dataset's variants."""
    variants = []
    by_method: dict[str, dict[float, float]] = defaultdict(dict)
    for result in results:
        variant = result["variant"]
        row = {
            "variant": str(variant),
            "method": variant.method,
            "bits": variant.bits,
            "refined": result["refined"],
            "levels": result["method"]["levels"],
            "granularity": result["method"]["granularity"],
            "scope": result["method"]["scope"],
            "effective_bits": result["effective_bits"],
            "w2_squared": relative_error(result, "w2"),
            "squared_error": relative_error(result, "mean_squared_error"),
            "fid": fids.get(variant),
        }
        variants.append(row)
        by_method[variant.method][variant.bits] = row["squared_error"]
    ratios: dict[str, dict[str, float]] = defaultdict(dict)
    errors = {
        (r["levels"], r["granularity"], r["scope"], r["bits"]): r["squared_error"]
        for r in variants
        if not r["refined"]
    }
    for (levels, granularity, scope, bits), error in errors.items():
        uniform = errors.get(("uniform", granularity, scope, bits))
        if levels == "equal_mass" and uniform:
            ratios[f"{granularity}, {scope}"][f"{bits:g}"] = error / uniform
    scored = [row for row in variants if row["fid"] is not None]
    plain = [row for row in scored if not row["refined"]]
    return {
        "dataset": results[0]["dataset"],
        "variants": variants,
        "decay": {method: decay(errors) for method, errors in by_method.items()},
        "rho": ratios,
        "rank_correlation": {
            name: rank_correlation([r["w2_squared"] for r in rows], [r["fid"] for r in rows])
            for name, rows in (("unrefined", plain), ("all", scored))
        },
    }


def as_markdown(summary: dict[str, Any]) -> str:
    """The table for people."""
    styles = {"effective_bits": ".2f", "w2_squared": ".2e", "squared_error": ".2e", "fid": ".2f"}
    variants = markdown(
        ["variant", "bits a weight", "W₂²", "squared error", "FID"],
        [
            [row["variant"], *(shown(row[name], style) for name, style in styles.items())]
            for row in summary["variants"]
        ],
    )
    decays = [[method, shown(value, ".2f")] for method, value in summary["decay"].items()]
    ratios = "".join(
        f"- {kind}: {', '.join(f'{bits} bits {ratio:.3g}' for bits, ratio in found.items())}\n"
        for kind, found in summary["rho"].items()
    )
    plain, over_all = (shown(rho, ".3f") for rho in summary["rank_correlation"].values())
    return f"""# {summary["dataset"]}: theory and measurement

W₂² by POT and squared error, both of all quantized tensors relative to their variance.

{variants}

Decay of the squared error from {FITTED[0]} to {FITTED[1]} bits, in bits of log₂ a bit \
of width; the bound 2^(−2b) says 2:

{markdown(["method", "decay"], decays)}

ρ(b), the squared error of equal mass ÷ that of uniform levels:

{ratios}
Rank correlation (Spearman) of FID with W₂: {plain} over unrefined variants, {over_all} over all.
"""


def as_figure(summary: dict[str, Any]) -> Figure:
    """Errors over bits above FID over W₂, a series for each method."""
    figure = Figure(figsize=(WIDTH, 6.4), layout="constrained")
    upper, lower = figure.subplots(2)
    _draw_lines(upper, summary)
    _draw_ranking(lower, summary)
    handles, labels = upper.get_legend_handles_labels()
    legend_below(figure, dict(zip(labels, handles, strict=True)))
    figure.suptitle(f"{summary['dataset']}: error over bits, and whether W₂ predicts FID")
    return figure


def _draw_lines(axes: Axes, summary: dict[str, Any]) -> None:
    for method in sorted(summary["decay"], key=place):
        rows = sorted(
            (r for r in summary["variants"] if r["method"] == method), key=lambda r: r["bits"]
        )
        axes.plot(
            [row["bits"] for row in rows],
            [max(row["squared_error"], 1e-12) for row in rows],
            label=method,
            **{"linewidth": 1.3} | method_style(method),
        )
    widths = sorted({row["bits"] for row in summary["variants"]})
    axes.plot(widths, [4.0**-bits for bits in widths], label="2^(−2b)", **REFERENCE_LINE)
    axes.set_xlabel("bits")
    axes.set_ylabel("squared error ÷ variance")
    axes.set_yscale("log")


def _draw_ranking(axes: Axes, summary: dict[str, Any]) -> None:
    for method in sorted(summary["decay"], key=place):
        rows = [r for r in summary["variants"] if r["method"] == method and r["fid"] is not None]
        axes.plot(
            [max(row["w2_squared"], 1e-12) for row in rows],
            [row["fid"] for row in rows],
            **method_style(method) | {"linestyle": ""},
        )
    axes.set_xlabel("W₂² ÷ variance")
    axes.set_ylabel("FID")
    axes.set_xscale("log")
    axes.set_yscale("log")
    logarithmic(axes.yaxis)
