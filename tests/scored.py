"""What `score` writes, made up."""

from __future__ import annotations

from typing import Any


def scored(value: float = 1.0, **more: Any) -> dict[str, Any]:
    """An evaluation, but whose samples it is of: every metric has one ``value``."""
    names = ("fid", "fid_infinity", "kid_mean", "kid_std", "is_mean", "is_std", "sliced_w2")
    return {
        **dict.fromkeys((*names, "precision", "recall"), value),
        "fid_resampled": [value - 0.5, value + 0.5],
        "fid_at": {"500": value + 1, "1000": value},
        "extractor": "classifier",
        "weights_sha256": "0" * 64,
        "features": 512,
        "n_real": 10_000,
        **more,
    }


def scores(*evaluations: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A file with these evaluations, each by an extractor of its own, and ``more``."""
    by = {
        one["extractor"]: {name: value for name, value in one.items() if name != "extractor"}
        for one in evaluations
    }
    return {"evaluation": by, **more}
