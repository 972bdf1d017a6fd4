"""A peer: another project's quantizer, by its own code; a row under ``peers``."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from flowquant.config.fields import READS, WHOLE, Flag, Natural, Widths, refuse, section, whole
from flowquant.runtime.errors import some


class Known(NamedTuple):
    """What the program of a peer takes."""

    widths: tuple[int, ...]
    settings: tuple[str, ...]


KNOWN = {
    "hqq": Known((1, 2, 3, 4, 8), ("group",)),
    "bitsandbytes": Known((4,), ("group", "double")),
    "torchao": Known((1, 2, 3, 4, 5, 6, 7, 8), ("group",)),
    "quanto": Known((2, 4, 8), ()),
    "sdnq": Known((2, 3, 4, 5, 6, 7, 8), ("group", "codebook", "rank")),
}
OWN = r"[^-\x00-\x1f\x7f][^\x00-\x1f\x7f]*\.py"
PATTERN = f"^(?:{'|'.join(KNOWN)}|{OWN})$"


def _peer_schema(schema: dict[str, Any]) -> None:
    del schema["type"], schema["pattern"]
    schema |= {
        "anyOf": [{"enum": list(KNOWN)}, {"type": "string", "pattern": f"^{OWN}$"}],
        READS: f"one of {', '.join(KNOWN)}; or `path/to/program.py`",
    }


@section
class PeerConfig:
    """What a peer is told besides a width."""

    group: Annotated[int, whole(ge=2), WHOLE] | None = None
    """Values that share a scale; ``null``: as many as the peer takes by itself."""

    double: Flag = False
    """``bitsandbytes``: whether scales are quantized, too."""

    codebook: Flag = False
    """``sdnq``: whether levels are chosen by k-means in place of even ones."""

    rank: Natural = 0
    """``sdnq``: rank of the 16-bit product that is taken out first, by singular values."""

    @property
    def said(self) -> dict[str, Any]:
        """What differs from the defaults."""
        own = {name: getattr(self, name) for name in PeerConfig.__dataclass_fields__}
        return {name: value for name, value in own.items() if value not in (None, False, 0)}


@section
class PeerRow(PeerConfig):
    """A row under ``peers``: whose quantizer, and the widths that it is applied with."""

    peer: Annotated[str, Field(strict=True, pattern=PATTERN, json_schema_extra=_peer_schema)]
    """Whose code, of the packages in envs/requirements-peers.txt; or a program of your own."""

    bits: Widths
    """Bits of an index."""

    @model_validator(mode="after")
    def _check(self) -> PeerRow:
        known = KNOWN.get(self.peer)
        if known is None:
            return self
        for width in self.bits:
            if width not in known.widths:
                refuse(
                    "bits",
                    found=width,
                    expected=f"widths of `{self.peer}`: {', '.join(map(str, known.widths))}",
                    remedy="Leave it out, or name another peer.",
                )
        for name in self.said:
            if name not in known.settings:
                refuse(
                    name,
                    found=f"a setting that `{self.peer}` does not have",
                    expected=f"none but {some(known.settings) or 'its widths'}",
                    remedy="Leave it out, or name another peer.",
                )
        return self
