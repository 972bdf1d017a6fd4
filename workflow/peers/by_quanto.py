"""Integers of optimum-quanto (github.com/huggingface/optimum-quanto, Apache-2.0)."""

from __future__ import annotations

from argparse import Namespace
from types import SimpleNamespace

import torch
from optimum.quanto import QLinear, qint2, qint4, qint8
from optimum.quanto.library.extensions import get_extension
from program import Quantized, run
from torch import Tensor, nn

TYPES = {2: qint2, 4: qint4, 8: qint8}


def unpack(packed: Tensor, bits: int) -> Tensor:
    """As theirs in C++, which is compiled into the package's folder first and takes minutes."""
    return torch.cat([(packed >> shift) & (2**bits - 1) for shift in range(0, 8, bits)])


get_extension("quanto_cpp")._lib = SimpleNamespace(unpack=unpack)


def quantize(matrix: Tensor, settings: Namespace) -> Quantized:
    """As `quantize` and `freeze` do with a model in half precision, in groups of their choice.

    On the CPU: on a GPU some shapes ask for kernels that are compiled first.
    """
    rows, columns = matrix.shape
    layer = nn.Linear(columns, rows, bias=False, dtype=torch.float16)
    layer.weight.data.copy_(matrix)
    quantized = QLinear.from_module(layer, weights=TYPES[settings.bits])
    quantized.freeze()
    weight = quantized.weight
    parts = {name.strip("_"): getattr(weight, name) for name in weight.__tensor_flatten__()[0]}
    if settings.bits < 8:
        parts["data"] = parts["data"]._data  # several codes a byte
    return weight.dequantize(), parts


if __name__ == "__main__":
    run("optimum-quanto", quantize)
