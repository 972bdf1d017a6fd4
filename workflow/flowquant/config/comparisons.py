"""Which variants are compared, and over what intervals reach."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flowquant.config.fields import EACH_ONCE, Flag, Item, section

Level = Literal["samples", "sampling seeds", "training seeds"]


@section
class ComparisonsSection:
    """Which variants are compared by FID."""

    usual: Flag = True
    """Whether to compare every quantized variant with full precision, and with the paper's methods
    (``equal_mass`` and ``uniform`` levels, one set a tensor) and the peers: with that of its width,
    with the smallest that is not smaller, and each peer with the best by FID that is not larger."""

    pairs: tuple[Annotated[tuple[Item, Item], EACH_ONCE], ...] = ()
    """More pairs of variants, each such as ``[refined/2bit, ot/4bit]``."""

    over: Annotated[tuple[Level, ...], Field(min_length=1), EACH_ONCE] | None = None
    """What intervals are drawn over; ``null``: samples, and seeds of which there are several."""
