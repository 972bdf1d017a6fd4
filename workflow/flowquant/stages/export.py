"""Write a quantized model's weights out plainly, for any other program."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor

from flowquant.quantization.codebook import expand
from flowquant.quantization.packed_file import read_quantized
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import write_plain

TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def export(
    file: Annotated[Path, tyro.conf.Positional],
    output: Path,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
) -> None:
    """Write a packed file's weights as plain safetensors, under their original names.

    Tied weights stand under each of their names; integers stay what they are.

    Args:
        file: The packed file.
        output: The safetensors file to write.
        dtype: Type of all floats; float32 and, of float16 levels, float16 change no value.

    Raises:
        UserError: if a value is beyond the range of float16.
    """
    contents, metadata = read_quantized(file)
    weights: dict[str, Tensor] = {}
    for name, content in contents.items():
        values = expand(content)
        weights[name] = values.to(TYPES[dtype]) if values.is_floating_point() else values
        # A buffer may hold an infinity of its own, as masks do.
        if not torch.equal(weights[name].isfinite(), values.isfinite()):
            raise UserError(
                file,
                found=f"{name} with values up to {values.abs().max():g}",
                expected=f"values within the range of {dtype}",
                remedy="Choose `--dtype float32` or `--dtype bfloat16`.",
            )
    for alias, name in metadata.get("tied", {}).items():
        weights[alias] = weights[name].clone()
    write_plain(output, weights)
    print(f"{output}: {len(weights)} tensors, {output.stat().st_size:,} bytes")
