"""What the peers' programs share: reading matrices, and writing what a peer makes of them.

`flowquant.quantization.peer` says how a program is called. These import nothing of flowquant, and
flowquant nothing of them: each runs as a process of its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

# What a matrix [out, in], float32, becomes, and the tensors that the peer would store for it.
Quantized = tuple[Tensor, Mapping[str, Tensor | None]]


def run(package: str, quantize: Callable[[Tensor, argparse.Namespace], Quantized]) -> None:
    """Be the program of a peer; a kernel [out, in, …] is a matrix of its rows.

    Args:
        package: Whose version to say.
        quantize: What the peer makes of a matrix under the settings given. The bytes of the tensors
            that it says it stores are counted as they are, so a code that lies in a byte of its own
            counts as 8 bits.
    """
    parser = argparse.ArgumentParser()
    for name in ("weights", "output", "counts"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--bits", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--group", type=int)
    parser.add_argument("--rank", type=int, default=0)
    parser.add_argument("--double", action="store_true")
    parser.add_argument("--codebook", action="store_true")
    settings = parser.parse_args()
    values, counts = {}, {}
    for name, weight in load_file(settings.weights).items():
        found, stored = quantize(weight.flatten(1).to(settings.device), settings)
        values[name] = found.float().cpu().reshape(weight.shape).contiguous()
        counts[name] = {
            part: tensor.numel() * tensor.element_size()
            for part, tensor in stored.items()
            if tensor is not None
        }
    save_file(values, settings.output)
    said = {"package": f"{package} {version(package)}", "tensors": counts}
    settings.counts.write_text(json.dumps(said), encoding="utf-8")
