"""What is compared: full precision, real images in its place, and methods at their widths."""

from __future__ import annotations

import re
from dataclasses import dataclass

from flowquant.runtime.errors import UserError

_RANKS = {"real": 0, "full": 1}
_QUANTIZED = re.compile(r"([a-z0-9][a-z0-9_-]*)/([0-9]+(?:\.[0-9]+)?)bit")


@dataclass(frozen=True)
class Variant:
    """A variant of a dataset's model; its name is ``full``, ``real`` or ``{method}/{bits}bit``.

    Variants sort as tables show them: the real images, full precision, then methods by name, the
    most bits first.

    Attributes:
        method: A row of ``methods``; ``full`` or ``real`` where nothing is quantized.
        bits: Width of an index, or a budget of mixed precision in bits a parameter, above 0; None
            where nothing is quantized. Names keep six digits of it.
    """

    method: str
    bits: float | None = None

    def __post_init__(self) -> None:
        if (self.method in _RANKS) != (self.bits is None):
            raise ValueError(f"a variant of method {self.method!r} with bits {self.bits}")

    @classmethod
    def parse(cls, name: str, where: object = "the name of a variant") -> Variant:
        """The variant that is called ``name``, as `str` writes it.

        Args:
            name: The name.
            where: The file or configuration key that holds it, for the error.

        Raises:
            UserError: if there is no such variant.
        """
        if name in _RANKS:
            return cls(name)
        match = _QUANTIZED.fullmatch(name)
        if match and match[1] not in _RANKS and float(match[2]) > 0:
            variant = cls(match[1], float(match[2]))
            if str(variant) == name:
                return variant
        raise UserError(
            where,
            found=repr(name),
            expected="a variant: full, real, or a method and its bits such as ot/2bit",
            remedy="Name it as the run's configuration does, its bits without needless zeros.",
        )

    def __str__(self) -> str:
        return f"{self.method}/{self.width}" if self.is_quantized else self.method

    def __lt__(self, other: Variant) -> bool:
        return self._order < other._order

    @property
    def _order(self) -> tuple[int, str, float]:
        return _RANKS.get(self.method, len(_RANKS)), self.method, -(self.bits or 0)

    @property
    def is_full(self) -> bool:
        """Whether it is the model as it was trained."""
        return self.method == "full"

    @property
    def is_real(self) -> bool:
        """Whether it is real images in place of samples."""
        return self.method == "real"

    @property
    def is_quantized(self) -> bool:
        """Whether it is a quantized model."""
        return self.bits is not None

    @property
    def nominal_bits(self) -> float | None:
        """Its bits, 32 for full precision; None for real images."""
        return 32 if self.is_full else self.bits

    @property
    def width(self) -> str:
        """Its bits as names have them, ``2bit``; empty where nothing is quantized."""
        return "" if self.bits is None else f"{self.bits:g}bit"

    @property
    def label(self) -> str:
        """How figures name it: ``ot 2bit``."""
        return f"{self.method} {self.width}".rstrip()
