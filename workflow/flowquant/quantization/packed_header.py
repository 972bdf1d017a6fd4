"""What a packed file says of itself, for those who read it without torch, too."""

import math
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from flowquant.config.fields import Bits, Rate
from flowquant.config.method import CodingName
from flowquant.config.model import ModelConfig
from flowquant.runtime.header import Kind

Size = Annotated[int, Field(ge=1)]
# The name of levels that are no parameter's own.
COMMON_LEVELS = ".levels"


@dataclass(frozen=True)
class PackedEntry:
    """A quantized parameter.

    Its shape and the width of an index; how indices are stored; how many values one stands for, how
    many scales there are, and whether its levels are those that the network has in common.
    """

    shape: list[Size]
    bits: Bits
    coding: CodingName = "none"
    vector: Size = 1
    scales: Annotated[int, Field(ge=0)] = 0
    common: bool = False

    @property
    def count(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def indices(self) -> int:
        """Number of indices."""
        return self.count // self.vector

    def parts(self, name: str) -> dict[str, str]:
        """The tensors that hold the parameter of a name: theirs by what they are."""
        indices = ("indices",) if self.coding == "none" else ("coded", "frequencies")
        parts = *indices, "levels", *(("scales",) if self.scales else ())
        own = {part: f"{name}.{part}" for part in parts}
        return own | {"levels": COMMON_LEVELS} if self.common else own


@dataclass(frozen=True)
class MethodMetadata:
    """What is read of a method's row."""

    levels: str
    granularity: str
    scope: str
    coding: CodingName = "none"


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
    bits: Rate | None
    effective_bits: float
    model: ModelConfig | None = None
    source_sha256: str | None = None
    tensors: dict[str, TensorMetadata] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    refine: RefineMetadata | None = None


PACKED = Kind("quantized model", "`quantize` or `refine`", PackedMetadata, version=2)
