"""HQQ, half-quadratic quantization (github.com/mobiusml/hqq, Apache-2.0)."""

from __future__ import annotations

from argparse import Namespace

import torch
from hqq.core.quantize import Quantizer
from program import Quantized, run
from torch import Tensor


def quantize(matrix: Tensor, settings: Namespace) -> Quantized:
    """As `HQQLinear` does by default, along rows: scales and zeros in half precision.

    It packs ten 3-bit codes into 32 bits. Values that groups do not divide are a group a row, and
    where it cannot pack as many groups as there are, packed codes are counted that it keeps wide.
    """
    bits, group = settings.bits, settings.group or 64
    group = matrix.shape[1] if matrix.numel() % group else group
    packs = bits == 3 or (matrix.numel() // group) % (8 // bits) == 0
    codes, meta = Quantizer.quantize(
        matrix,
        nbits=bits,
        group_size=group,
        axis=1,
        bitpack=packs,
        compute_dtype=torch.float16,
        device=str(matrix.device),
    )
    meta["compute_dtype"] = torch.float16
    codes, meta = Quantizer.to_inplace(codes, meta, matrix.device)
    # What is stored, multiplied without more rounding.
    values = Quantizer.dequantize(codes, meta | {"compute_dtype": torch.float32})
    if not packs:
        codes = torch.empty(-(-matrix.numel() * bits // 8), dtype=torch.uint8)
    return values, {"codes": codes, "scales": meta["scale"], "zeros": meta["zero"]}


if __name__ == "__main__":
    run("hqq", quantize)
