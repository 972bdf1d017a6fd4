"""Weight-only integers of torchao (github.com/pytorch/ao, BSD-3-Clause)."""

from __future__ import annotations

from argparse import Namespace

import torch
from program import Quantized, run
from torch import Tensor, nn
from torchao.quantization import (
    Int8WeightOnlyConfig,
    IntxWeightOnlyConfig,
    MappingType,
    PerAxis,
    PerGroup,
    PerRow,
    quantize_,
)


def quantize(matrix: Tensor, settings: Namespace) -> Quantized:
    """A scale a row, or a group that divides rows; below 8 bits a zero point, too.

    Below 8 bits torchao keeps a byte a code until they are laid out for a kernel, for which it
    needs a GPU or a CPU of another kind: what is counted is packed codes.
    """
    rows, columns = matrix.shape
    grouped = bool(settings.group) and columns % settings.group == 0
    layer = nn.Linear(columns, rows, bias=False, dtype=torch.float16, device=matrix.device)
    layer.weight.data.copy_(matrix)
    if settings.bits == 8:
        granularity = PerGroup(settings.group) if grouped else PerRow()
        quantize_(layer, Int8WeightOnlyConfig(granularity=granularity, set_inductor_config=False))
    else:
        config = IntxWeightOnlyConfig(
            weight_dtype=getattr(torch, f"int{settings.bits}"),
            granularity=PerGroup(settings.group) if grouped else PerAxis(0),
            mapping_type=MappingType.ASYMMETRIC,
        )
        quantize_(layer, config)
    weight = layer.weight.data
    packed = torch.empty(-(-matrix.numel() * settings.bits // 8), dtype=torch.uint8)
    zeros = getattr(weight, "zero_point", None)
    return weight.dequantize(), {"codes": packed, "scales": weight.scale, "zeros": zeros}


if __name__ == "__main__":
    run("torchao", quantize)
