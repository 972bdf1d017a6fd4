"""ReLU of what a product wrote as e4m3: it commutes with rounding, so bytes are enough."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _relu(x, saturated, words, WORDS: tl.constexpr):
    """Four values a word, each a byte: a sign, and a magnitude of which 127 is NaN, 126 the end."""
    # What was written last is still in the cache, and what is read next comes first.
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    place = program.to(tl.int64) * WORDS + tl.arange(0, WORDS)
    inside = place < words
    word = tl.load(x + place, mask=inside, other=0)
    magnitude = word & 0x7F7F7F7F
    none = ((magnitude + 0x01010101) >> 7) & 0x01010101
    negative = ((word >> 7) & 0x01010101) & ~none
    kept = ~((negative << 8) - negative)
    tl.store(x + place, word & kept, mask=inside)
    full = (((magnitude & kept) + 0x02020202) >> 7) & ~none & 0x01010101
    if tl.max(full) > 0:
        # A product by 2^24 + 2^16 + 2^8 + 1 has the sum of all bytes in its highest.
        tl.atomic_add(saturated, tl.sum((full * 0x01010101) >> 24), sem="relaxed")


# Words of a program, and warps.
WORDS = 4096, 8


def relu_(x: Tensor, saturated: Tensor) -> Tensor:
    """ReLU in place, of contiguous e4m3 [..., F] with F a multiple of 4; NaN stays.

    ``saturated``, int32 [1], counts the values at the end of the range: no product tells which
    were beyond it.
    """
    each, warps = WORDS
    words = x.view(torch.int32)
    _relu[(triton.cdiv(words.numel(), each),)](
        words, saturated, words.numel(), WORDS=each, num_warps=warps
    )
    return x
