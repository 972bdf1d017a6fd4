"""What a packed file says of itself, for those who read it without torch, too."""

import math
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from flowquant.config.fields import Bits
from flowquant.config.model import ModelConfig
from flowquant.runtime.header import Kind

Size = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class PackedEntry:
    """A quantized parameter: its shape and the width of an index."""

    shape: list[Size]
    bits: Bits

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class MethodMetadata:
    """What is read of a method's row."""

    levels: str
    granularity: str
    scope: str


@dataclass(frozen=True)
class TensorMetadata:
    """What is said of a stored parameter, against the full-precision one."""

    values: int
    bytes: int
    bits: int
    granularity: str
    mean_squared_error: float
    w2: float


@dataclass(frozen=True)
class RefineMetadata:
    """What is read of how a model was refined."""

    steps: int


@dataclass(frozen=True)
class PackedMetadata:
    """What a packed file says besides its tensors; docs/format.md explains it."""

    version: int
    packed: dict[str, PackedEntry]
    method: MethodMetadata
    bits: Bits | None
    effective_bits: float
    model: ModelConfig | None = None
    source_sha256: str | None = None
    tensors: dict[str, TensorMetadata] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    refine: RefineMetadata | None = None


PACKED = Kind("quantized model", "`quantize` or `refine`", PackedMetadata)
