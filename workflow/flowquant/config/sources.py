"""Where images come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Digests:
    """SHA-256 of each file's uncompressed content, so that any compression of it is accepted."""

    train_images: str | None = None
    train_labels: str | None = None
    test_images: str | None = None
    test_labels: str | None = None


@dataclass(frozen=True)
class Layout:
    """Which folder holds which split; with ``test_fraction``, all classes are in one."""

    train: str
    validation: str | None
    test: str | None
    test_fraction: float | None


OnBadImage = Literal["error", "skip"]
