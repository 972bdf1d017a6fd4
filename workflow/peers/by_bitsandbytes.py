"""NF4 of bitsandbytes (github.com/bitsandbytes-foundation/bitsandbytes, MIT)."""

from __future__ import annotations

from argparse import Namespace

from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from program import Quantized, run
from torch import Tensor


def quantize(matrix: Tensor, settings: Namespace) -> Quantized:
    """As `Linear4bit` does: a float32 maximum a block, or with ``double`` 8 bits of it.

    The tables of levels, which are the same for every tensor, are not counted. Blocks run on over
    the ends of rows. On CPUs 0.50.2 reads a matrix back wrongly where they do: here it is a line.
    """
    codes, state = quantize_4bit(
        matrix.flatten(),
        blocksize=settings.group or 64,
        compress_statistics=settings.double,
        quant_type="nf4",
    )
    stored = {"codes": codes, "maxima": state.absmax}
    if settings.double:
        stored |= {"scales of maxima": state.state2.absmax, "offset": state.offset}
    return dequantize_4bit(codes, state), stored


if __name__ == "__main__":
    run("bitsandbytes", quantize)
