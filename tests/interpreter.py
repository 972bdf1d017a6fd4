"""Triton's interpreter, mended: it rounds to e4m3 without carrying, and makes numbers of NaN."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from triton import language as tl
from triton.runtime import interpreter


def round_to_e4m3(patch: pytest.MonkeyPatch) -> None:
    """Let float32 become e4m3 as on a GPU, and in PyTorch: to nearest, ties to even."""
    converted = interpreter._convert_float

    def convert(data: Any, given: Any, wanted: Any, rounding: Any) -> Any:
        if given != tl.float32 or wanted != tl.float8e4nv:
            return converted(data, given, wanted, rounding)
        values = torch.from_numpy(data.view("float32").copy()).to(torch.float8_e4m3fn)
        return values.view(torch.uint8).numpy()

    patch.setattr(interpreter, "_convert_float", convert)
