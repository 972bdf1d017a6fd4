"""How a method is drawn: by its name alone, so that it looks the same in every figure."""

from hashlib import sha256
from typing import Any

from flowquant.config.variants import Variant

# Okabe and Ito's colours, told apart by readers of every colour vision, less their yellow, which
# white paper swallows; black is full precision's.
COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "vermilion": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "grey": "#707070",
}
MARKERS = ("o", "s", "^", "*", "P", "v", "X", "D", "<", ">", "p", "h")
# Points; these look smaller than others of their size.
SIZES = {"*": 10.0, "P": 7.0, "X": 7.0}
SIZE = 6.0
# A family has a colour and begins at a marker of its own: print without colours tells it, too.
# Those beyond the first dozen have hollow ones.
FAMILIES: dict[str, tuple[str, ...]] = {
    "blue": ("ot", "ot-row", "ot-matrices"),
    "orange": ("uniform", "uniform-row", "uniform-matrices", "uniform-mse"),
    "sky": (
        "lloyd",
        "lloyd-tensor",
        "lloyd-scaled",
        "lloyd-row",
        "lloyd-group",
        "entropy-1_1",
        "entropy-1_5",
        "entropy-2",
        "entropy-3",
    ),
    "vermilion": (
        "refined",
        "lloyd-refined",
        "lloyd-refined-tensor",
        "lloyd-scaled-refined",
        "vectors-4-refined",
        "vectors-8-refined",
        "compensated-refined",
        "compensated-vectors-refined",
        "mixed-refined",
        "lloyd-refined-fixed",
        "lloyd-refined-data-free",
        "lloyd-refined-brief",
        "refined-3",
        "refined-2",
        "refined-2-1000",
        "refined-2-5000",
        "refined-1",
        "common-vectors-refined",
        "refined-2-4800",
        "refined-half",
        "refined-2-levels",
    ),
    "green": (
        "compensated",
        "compensated-scaled",
        "compensated-vectors",
        "compensated-data-free",
        "mixed",
        "mixed-compensated",
        "priced-4",
        "priced-3",
        "priced-2",
    ),
    "purple": (
        "pwl-row",
        "log2-row",
        "pwl-matrices",
        "log2-matrices",
        "normal-float",
        "vectors-4",
        "vectors-8",
        "pwl",
        "log2",
        "common-vectors",
    ),
    "grey": (
        "hqq",
        "nf4",
        "nf4-double",
        "torchao",
        "quanto",
        "sdnq",
        "sdnq-codebook",
        "sdnq-svd",
    ),
}
KNOWN = {
    name: (colour, MARKERS[(first + place) % len(MARKERS)], place >= len(MARKERS))
    for first, (colour, names) in enumerate(FAMILIES.items())
    for place, name in enumerate(names)
}
FULL: dict[str, Any] = {"color": "black", "linewidth": 1.4}
# What measurements are held against: a bound, the real images.
REFERENCE_LINE: dict[str, Any] = {"color": "#707070", "linestyle": ":"}
# Widths of one method, the fewest bits first: each has the first line that is not too narrow.
LINES = ((1, ":"), (2, "-."), (3, "--"), (4, (0, (7, 1))))


def method_style(method: str) -> dict[str, Any]:
    """Colour and marker of a method.

    Those that the workflow's configurations name have one of their own. Others have a hollow marker
    and what a hash of the name comes to, so that two may look alike. One that goes on from a known
    name, as ``refined-2-mine`` does, has the colour of its family and none of the family's markers.
    """
    if method in KNOWN:
        colour, marker, hollow = KNOWN[method]
        style = {"color": COLOURS[colour], "marker": marker, "markersize": _size(marker)}
        if hollow:
            return style | {"markerfacecolor": "white"}
        return style | {"markeredgecolor": "white", "markeredgewidth": 0.5}
    number = int.from_bytes(sha256(method.encode()).digest()[:4], "big")
    around, colour_place = divmod(number, len(COLOURS))
    colour = list(COLOURS)[colour_place]
    markers: tuple[str, ...] = MARKERS
    if family := next((name for name in _beginnings(method) if name in KNOWN), None):
        colour = KNOWN[family][0]
        taken = {shape for known, shape, hollow in KNOWN.values() if hollow and known == colour}
        markers = tuple(shape for shape in MARKERS if shape not in taken) or MARKERS
    marker = markers[around % len(markers)]
    return {
        "color": COLOURS[colour],
        "marker": marker,
        "markersize": _size(marker),
        "markerfacecolor": "white",
    }


def _beginnings(method: str) -> list[str]:
    """A name without its last words, the longest first."""
    words = method.split("-")
    return ["-".join(words[:count]) for count in range(len(words) - 1, 0, -1)]


def _size(marker: str) -> float:
    return SIZES.get(marker, SIZE)


def variant_style(variant: Variant) -> dict[str, Any]:
    """A method's style with a line for the width, where figures show several of its widths."""
    if variant.bits is None:
        return dict(FULL)
    line = next((line for most, line in LINES if variant.bits <= most), "-")
    return method_style(variant.method) | {"linestyle": line}


def place(method: str) -> tuple[int, str]:
    """Where a legend has a method: families together, the unknown last."""
    return (list(KNOWN).index(method) if method in KNOWN else len(KNOWN), method)
