"""A quantization method: a row under ``methods``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from flowquant.config.compensation import CompensationConfig
from flowquant.config.fields import (
    EACH_ONCE,
    OWN,
    OWN_READS,
    READS,
    RENAMED,
    WHOLE,
    Bits,
    Count,
    Item,
    Rates,
    number,
    refuse,
    section,
    whole,
)
from flowquant.config.refinement import RefineSection

LevelsName = Literal["uniform", "equal_mass", "pwl", "log2", "uniform_mse", "normal_float", "lloyd"]
BUILT_IN: tuple[str, ...] = get_args(LevelsName)
# A number above zero, as Python prints it.
PRICE = r"(?:0\.0*[1-9][0-9]*|[1-9][0-9]*(?:\.[0-9]+)?)(?:e-[0-9]{1,2})?"
ScopeName = Literal["all", "matrices"]
FloatName = Literal["float16", "float32"]
CodingName = Literal["none", "ans"]


def _word(value: Any) -> Any:
    """``{group: 64}`` as the one word that stages and files know it by, ``group:64``."""
    if isinstance(value, Mapping) and len(value) == 1:
        ((name, number),) = value.items()
        if isinstance(number, float) and number.is_integer():
            number = int(number)
        if isinstance(number, int | float) and not isinstance(number, bool):
            return f"{name}:{number}"
    return value


def _listed(value: Any) -> Any:
    """One budget is a list of one."""
    return value if value is None or isinstance(value, list | tuple) else (value,)


def _granularity_schema(schema: dict[str, Any]) -> None:
    """As it is said in YAML, which is not as it is known afterwards."""
    group = {"type": "integer", "minimum": 2, "description": "Values in a group"}
    del schema["type"], schema["pattern"]
    schema |= {
        "anyOf": [{"enum": ["tensor", "row", "scaled", "network"]}, _one("group", group)],
        READS: "`tensor`, `row`, `scaled`, `network`, or `{group: g}` with g ≥ 2",
    }


def _one(name: str, value: dict[str, Any]) -> dict[str, Any]:
    """The schema of a mapping with one key."""
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [name],
        "properties": {name: value},
    }


def _levels_schema(schema: dict[str, Any]) -> None:
    price = {"type": "number", "exclusiveMinimum": 0, "description": "Price of a bit"}
    length = {"type": "integer", "minimum": 2, "maximum": 16, "description": "Values in a vector"}
    del schema["type"], schema["pattern"]
    own = OWN_READS.format("my_levels")
    schema |= {
        "anyOf": [
            {"enum": list(BUILT_IN)},
            _one("entropy", price),
            _one("vector", length),
            {"type": "string", "pattern": f"^{OWN}$"},
        ],
        READS: f"one of {', '.join(BUILT_IN)}; `{{entropy: λ}}` with λ > 0; "
        f"`{{vector: d}}` with d from 2 to 16; or {own}",
    }


def _budget_schema(schema: dict[str, Any]) -> None:
    schema["anyOf"].insert(1, schema["anyOf"][0]["items"])
    schema[READS] = "a number or a list of numbers, each > 0, ≤ 16"


Levels = Annotated[
    str,
    Field(
        strict=True,
        pattern=f"^(?:{'|'.join(BUILT_IN)}|entropy:{PRICE}|vector:(?:[2-9]|1[0-6])|{OWN})$",
        json_schema_extra=_levels_schema,
    ),
    BeforeValidator(_word),
]
Granularity = Annotated[
    str,
    Field(
        strict=True,
        pattern=r"^(tensor|row|scaled|network|group:([2-9]|[1-9][0-9]+))$",
        json_schema_extra=_granularity_schema,
    ),
    BeforeValidator(_word),
]
Budget = Annotated[float, number(gt=0, le=16)]


@section
class MethodConfig:
    """What a method does to a tensor."""

    levels: Levels
    """``uniform``: equally spaced from minimum to maximum; ``equal_mass``: means of equally
    populated chunks (the paper's optimal-transport levels); ``pwl``: midpoints between quantiles,
    and ``log2``: evenly spaced logarithms of magnitudes (the extended paper's); ``uniform_mse``:
    ``uniform`` on the range of least squared error; ``normal_float``: normal quantiles times the
    absolute maximum (NF4 at any width); ``lloyd``: the W₂-optimal levels, one-dimensional
    k-means; ``{entropy: λ}``: at most 2^bits levels of least squared error ÷ variance + λ · bits of
    entropy, for ``coding: ans`` (.4: 1.1 bits of a Gaussian value, .2: 1.6, .12: 2, .03: 3);
    ``{vector: d}``: an index for d neighbours of a row, into 2^(bits·d) vectors of least squared
    error, k-means in d dimensions, with ``granularity: scaled`` or ``network``, so that bits may be
    fewer than 1; or a function of your own (docs/howto/levels.md)."""

    granularity: Granularity = "tensor"
    """Values that share levels: a whole ``tensor``, each ``row`` (index of axis 0), or ``{group:
    g}``, g consecutive values of a row (a row that ``group`` does not divide is one group);
    ``scaled``: the whole tensor's, times a scale of each row; ``network``: those of all quantized
    tensors, stored once, times a scale of each row."""

    scope: Annotated[ScopeName, Field(json_schema_extra={RENAMED: {"linear": "matrices"}})] = "all"
    """``all`` parameters (the paper), or only ``matrices``: the weights of linear layers, attention
    and convolutions, a row for each output. Biases, norms, tables of embeddings and the layers that
    time and condition go through first stay float."""

    embedders: Bits | None = None
    """With ``scope: matrices``: width of the matrices that time and condition go through first, by
    ``lloyd`` with a scale of each row; ``null``: they stay float."""

    keep: tuple[Item, ...] = ()
    """Name patterns of parameters to leave in float32, ``*`` matching anything."""

    least_values: Annotated[int, whole(ge=2), WHOLE] = 5
    """Parameters with fewer values stay float."""

    levels_dtype: FloatName = "float32"
    """How levels are stored."""

    float_dtype: FloatName = "float32"
    """How parameters that are not quantized are stored."""

    coding: CodingName = "none"
    """How indices are stored: side by side, or by an entropy coder (``ans``, asymmetric numeral
    systems) where that is smaller. What is read back is the same, and packed plainly in memory."""

    @model_validator(mode="after")
    def _check_coding(self) -> Self:
        if re.match("entropy:[0-9]", self.levels) and self.coding == "none":
            refuse(
                "coding",
                found="none, with levels that are chosen for their entropy",
                expected="an entropy coder",
                remedy="Set `coding: ans`; packed, they take more room than `lloyd`'s.",
            )
        return self

    @model_validator(mode="after")
    def _check_embedders(self) -> Self:
        if self.embedders is not None and self.scope == "all":
            refuse(
                "embedders",
                found=f"{self.embedders} with `scope: all`, which has one width for all parameters",
                expected="`scope: matrices`",
                remedy="Set it, or leave `embedders` out.",
            )
        return self

    @property
    def vector(self) -> int:
        """Values that an index stands for, d."""
        found = re.fullmatch("vector:([0-9]+)", self.levels)
        return int(found[1]) if found else 1

    @property
    def shared(self) -> bool:
        """Whether all rows of a matrix share its levels."""
        return self.granularity in ("tensor", "scaled", "network")

    @property
    def own(self) -> bool:
        """Whether levels are a function of the user's own."""
        return re.fullmatch(OWN, self.levels) is not None


def whole_bits(bits: float, d: int) -> int | None:
    """Bits of an index into vectors of d values at so many bits a value, if there can be one."""
    found = round(bits * d)
    return found if found == bits * d and 1 <= found <= 16 else None


# What a user who says nothing means: least error, and nothing but weights left large.
RECOMMENDED = MethodConfig(
    levels="lloyd",
    granularity="row",
    scope="matrices",
    levels_dtype="float16",
    float_dtype="float16",
)


@section
class SensitivityConfig:
    """How the distortion of each tensor at each width is measured, for a budget."""

    widths: Rates = (1, 2, 3, 4, 5, 6, 8)
    """Bit widths to choose from."""

    images: Count = 512
    """Training images that the velocity error of each tensor at each width is averaged over."""


@section
class MethodRow(MethodConfig):
    """A row under ``methods``: a method and the widths that it is applied with."""

    bits: Rates | None = None
    """This method's bit widths; ``null`` for the run's. Whole numbers; with ``levels: {vector: d}``
    also fractions, such as .5, of which d make a whole number."""

    budget: Annotated[
        Annotated[tuple[Budget, ...], Field(min_length=1), EACH_ONCE] | None,
        BeforeValidator(_listed),
        Field(json_schema_extra=_budget_schema),
    ] = None
    """Mixed precision in place of ``bits``: most effective bits a parameter over the whole model, a
    number or a list; a variant is named by it, ``mixed/2.5bit``."""

    sensitivity: SensitivityConfig = SensitivityConfig()
    """For a budget: how the distortion of each tensor at each width is measured."""

    compensate: CompensationConfig | None = None
    """Round each value such that it makes up for the errors of others in a layer's output, and move
    levels and biases for the same end; ``null`` for not. Needs ``scope: matrices``."""

    refine: RefineSection | None = None
    """Train levels and unquantized parameters to match the full-precision velocity; ``null`` for
    not."""

    @property
    def of_the_paper(self) -> bool:
        """Whether it is one of the paper's: its levels, one set a tensor, nothing after them."""
        plain = not (self.compensate or self.refine)
        return plain and self.levels in ("uniform", "equal_mass") and self.granularity == "tensor"

    @model_validator(mode="after")
    def _check(self) -> MethodRow:
        if self.compensate is not None and self.scope != "matrices":
            refuse(
                "compensate",
                found=f"compensation with `scope: {self.scope}`",
                expected="`scope: matrices`, for only matrices have inputs",
                remedy="Set `scope: matrices`, or leave `compensate` out.",
            )
        if self.compensate is not None and self.vector > 1 and not self.shared:
            refuse(
                "compensate",
                found=f"`levels: {self.levels}` and `granularity: {self.granularity}`",
                expected="vectors that all rows share",
                remedy="Set `granularity: scaled`, or leave `compensate` out.",
            )
        if self.refine is not None and self.refine.price and self.coding == "none":
            refuse(
                "refine.price",
                found=f"{self.refine.price:g} with `coding: none`",
                expected="an entropy coder, which makes a file of it",
                remedy="Set `coding: ans`, or leave `price` out.",
            )
        self._check_widths()
        if self.compensate is not None and self.refine is not None and self.refine.rounds:
            refuse(
                "refine.rounds",
                found=f"{self.refine.rounds} beside `compensate`",
                expected="0: rounds give each value the nearest level, not the compensating one",
                remedy="Leave `rounds` out, or set `assignments: trained`.",
            )
        if self.budget is None:
            return self
        if self.bits is not None:
            refuse(
                "bits",
                found="bits beside a budget",
                expected="one of the two",
                remedy="Leave out `bits`: a budget chooses among `sensitivity.widths`.",
            )
        if self.granularity == "network":
            refuse(
                "granularity",
                found="network beside a budget, which gives tensors widths of their own",
                expected="levels that are a tensor's own",
                remedy="Set `granularity: scaled`, or `bits` in place of the budget.",
            )
        names = [f"{budget:g}" for budget in self.budget]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            refuse(
                "budget",
                found=f"two budgets that print as {twice}",
                expected="budgets with names of their own, in six digits",
                remedy="Leave one out: variants are named by their budgets.",
            )
        least = min(self.sensitivity.widths)
        if min(self.budget) < least:
            refuse(
                "budget",
                found=f"{min(self.budget):g}",
                expected=f"at least {least}, the smallest of `sensitivity.widths`",
                remedy="Raise the budget, or allow smaller widths.",
            )
        return self

    def _check_widths(self) -> None:
        """Refuse fractions of which an index has no whole number of bits."""
        given = {"bits": self.bits or ()}
        if self.budget is not None:
            given["sensitivity.widths"] = self.sensitivity.widths
        d = self.vector
        for key, widths in given.items():
            for bits in widths:
                if whole_bits(bits, d) is None:
                    refuse(
                        key,
                        found=f"{bits:g}",
                        expected="whole numbers"
                        if d == 1
                        else f"{d} times as many bits a whole number up to 16, for an index",
                        remedy="Choose other bits, or a `vector` of another length in `levels`.",
                    )
