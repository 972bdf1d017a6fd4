"""Which values a dropout keeps, as a function of a seed and a position."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def kept_tile(seed, place, dropout):
    """Whether to keep each value: float 0 or 1 of a square tile, from four draws a counter.

    place [R, C / 4] numbers the counters; the tile is [R, C].
    """
    # Seven rounds are the fewest that Philox's authors found to pass every test of randomness.
    a, b, c, d = tl.rand4x(seed, place, n_rounds=7)
    draws = tl.reshape(tl.join(tl.join(a, b), tl.join(c, d)), (place.shape[0], place.shape[1] * 4))
    return (draws >= dropout).to(tl.float32)
