"""HQQ, half-quadratic quantization (github.com/mobiusml/hqq, Apache-2.0)."""

from __future__ import annotations

from argparse import Namespace

import torch
from hqq.core.quantize import Quantizer
from program import Quantized, run
from torch import Tensor


def quantize(matrix: Tensor, settings: Namespace) -> Quantized:
    """As `HQQLinear` does by default, along rows: scales and zeros in half precision.

    It packs ten 3-bit codes into 32 bits. Values that groups do not divide are a group a row.
    """
    group = settings.group or 64
    codes, meta = Quantizer.quantize(
        matrix,
        nbits=settings.bits,
        group_size=matrix.shape[1] if matrix.numel() % group else group,
        axis=1,
        compute_dtype=torch.float16,
        device=str(matrix.device),
    )
    meta["compute_dtype"] = torch.float16
    codes, meta = Quantizer.to_inplace(codes, meta, matrix.device)
    # What is stored, multiplied without more rounding.
    values = Quantizer.dequantize(codes, meta | {"compute_dtype": torch.float32})
    return values, {"codes": codes, "scales": meta["scale"], "zeros": meta["zero"]}


if __name__ == "__main__":
    run("hqq", quantize)
