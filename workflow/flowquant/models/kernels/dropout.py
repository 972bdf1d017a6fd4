"""Which values a dropout keeps, as a function of a seed and a position."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def kept_tile(seed, place, dropout):
    """Whether to keep each value: float 0 or 1 of a tile, from eight draws of 16 bits a counter.

    place [R, C / 8] numbers the counters; the tile is [R, C].
    """
    # Seven rounds are the fewest that Philox's authors found to pass every test of randomness.
    a, b, c, d = tl.randint4x(seed, place, n_rounds=7)
    whole = tl.join(tl.join(a, b), tl.join(c, d))
    draws = tl.join(whole & 0xFFFF, (whole >> 16) & 0xFFFF)
    draws = tl.reshape(draws, (place.shape[0], place.shape[1] * 8))
    return (draws.to(tl.float32) >= dropout * 65536).to(tl.float32)
