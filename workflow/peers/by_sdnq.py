"""SDNQ (github.com/Disty0/sdnq, GPL-3.0-only)."""

from __future__ import annotations

import os
from argparse import Namespace

# Its quantizing is compiled otherwise, for each shape anew.
os.environ.setdefault("SDNQ_USE_TORCH_COMPILE", "0")

import torch
from program import Quantized, run
from sdnq.quantizer import sdnq_quantize_layer_weight
from torch import Tensor


def quantize(matrix: Tensor, settings: Namespace) -> Quantized:
    """Unsigned integers as by default: scales in float32, groups of its choice; perhaps a codebook,
    perhaps a product of low rank in half precision.

    It packs codes by eights: a matrix that these do not divide stays in half precision, in which it
    leaves all layers that are small.
    """
    if matrix.numel() % 8:
        return matrix.half(), {"weight": matrix.half()}
    torch.manual_seed(0)  # of the singular values, which it finds by random projections
    rank = min(settings.rank, *matrix.shape)
    dequantizer, stored = sdnq_quantize_layer_weight(
        matrix.clone(),
        layer_class_name="Linear",
        weights_dtype=f"uint{settings.bits}",
        group_size=settings.group or 0,
        use_codebook=settings.codebook,
        use_svd=rank > 0,
        svd_rank=rank,
        torch_dtype=torch.float16,
    )
    return dequantizer(**stored, skip_compile=True, dtype=torch.float32), stored


if __name__ == "__main__":
    run("sdnq", quantize)
