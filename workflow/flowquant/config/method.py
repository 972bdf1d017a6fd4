"""A quantization method: a row under `methods`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MethodConfig:
    """A quantization method (a row under ``methods`` in the configuration).

    ``scope``: every parameter, or only the weights of linear layers and convolutions; less those
    that a pattern of ``keep`` matches (``*`` matches anything) or that hold fewer than
    ``least_values`` values. ``levels_dtype`` and ``float_dtype``: how levels, and the tensors
    that are not quantized, are stored.
    """

    levels: str
    granularity: str
    scope: Literal["all", "linear"]
    keep: tuple[str, ...]
    least_values: int
    levels_dtype: Literal["float16", "float32"] = "float32"
    float_dtype: Literal["float16", "float32"] = "float32"


@dataclass(frozen=True)
class SensitivityConfig:
    """Which widths are tried, and how many images the velocity error is averaged over."""

    widths: tuple[int, ...]
    images: int
