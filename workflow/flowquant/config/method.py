"""A quantization method: a row under ``methods``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from flowquant.config.fields import (
    EACH_ONCE,
    OWN,
    OWN_READS,
    READS,
    RENAMED,
    WHOLE,
    Count,
    Item,
    Widths,
    number,
    refuse,
    section,
    whole,
)
from flowquant.config.refinement import RefineSection

LevelsName = Literal["uniform", "equal_mass", "pwl", "log2", "uniform_mse", "normal_float", "lloyd"]
BUILT_IN: tuple[str, ...] = get_args(LevelsName)
ScopeName = Literal["all", "matrices"]
FloatName = Literal["float16", "float32"]


def _granularity(value: Any) -> Any:
    """``{group: 64}`` as the one word that stages and files know it by."""
    if isinstance(value, Mapping) and set(value) == {"group"}:
        group = value["group"]
        if isinstance(group, float) and group.is_integer():
            group = int(group)
        if isinstance(group, int) and not isinstance(group, bool):
            return f"group:{group}"
    return value


def _listed(value: Any) -> Any:
    """One budget is a list of one."""
    return value if value is None or isinstance(value, list | tuple) else (value,)


def _granularity_schema(schema: dict[str, Any]) -> None:
    """As it is said in YAML, which is not as it is known afterwards."""
    group = {"type": "integer", "minimum": 2, "description": "Values in a group"}
    del schema["type"], schema["pattern"]
    schema |= {
        "anyOf": [
            {"enum": ["tensor", "row"]},
            {
                "type": "object",
                "additionalProperties": False,
                "required": ["group"],
                "properties": {"group": group},
            },
        ],
        READS: "`tensor`, `row`, or `{group: g}` with g ≥ 2",
    }


def _levels_schema(schema: dict[str, Any]) -> None:
    del schema["type"], schema["pattern"]
    own = OWN_READS.format("my_levels")
    schema |= {
        "anyOf": [{"enum": list(BUILT_IN)}, {"type": "string", "pattern": f"^{OWN}$"}],
        READS: f"one of {', '.join(BUILT_IN)}; or {own}",
    }


def _budget_schema(schema: dict[str, Any]) -> None:
    schema["anyOf"].insert(1, schema["anyOf"][0]["items"])
    schema[READS] = "a number or a list of numbers, each > 0, ≤ 16"


Levels = Annotated[
    str,
    Field(
        strict=True,
        pattern=f"^(?:{'|'.join(BUILT_IN)}|{OWN})$",
        json_schema_extra=_levels_schema,
    ),
]
Granularity = Annotated[
    str,
    Field(
        strict=True,
        pattern=r"^(tensor|row|group:([2-9]|[1-9][0-9]+))$",
        json_schema_extra=_granularity_schema,
    ),
    BeforeValidator(_granularity),
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
    k-means; or a function of your own (docs/howto/levels.md)."""

    granularity: Granularity = "tensor"
    """Values that share levels: a whole ``tensor``, each ``row`` (index of axis 0), or ``{group:
    g}``, g consecutive values of a row (a row that ``group`` does not divide is one group)."""

    scope: Annotated[ScopeName, Field(json_schema_extra={RENAMED: {"linear": "matrices"}})] = "all"
    """``all`` parameters (the paper), or only ``matrices``: the weights of linear layers, attention
    and convolutions, a row for each output. Biases, norms, tables of embeddings and the layers that
    time and condition go through first stay float."""

    keep: tuple[Item, ...] = ()
    """Name patterns of parameters to leave in float32, ``*`` matching anything."""

    least_values: Annotated[int, whole(ge=2), WHOLE] = 5
    """Parameters with fewer values stay float."""

    levels_dtype: FloatName = "float32"
    """How levels are stored."""

    float_dtype: FloatName = "float32"
    """How parameters that are not quantized are stored."""


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

    widths: Widths = (1, 2, 3, 4, 5, 6, 8)
    """Bit widths to choose from."""

    images: Count = 512
    """Training images that the velocity error of each tensor at each width is averaged over."""


@section
class MethodRow(MethodConfig):
    """A row under ``methods``: a method and the widths that it is applied with."""

    bits: Widths | None = None
    """This method's bit widths; ``null`` for the run's."""

    budget: Annotated[
        Annotated[tuple[Budget, ...], Field(min_length=1), EACH_ONCE] | None,
        BeforeValidator(_listed),
        Field(json_schema_extra=_budget_schema),
    ] = None
    """Mixed precision in place of ``bits``: most effective bits a parameter over the whole model, a
    number or a list; a variant is named by it, ``mixed/2.5bit``."""

    sensitivity: SensitivityConfig = SensitivityConfig()
    """For a budget: how the distortion of each tensor at each width is measured."""

    refine: RefineSection | None = None
    """Train levels and unquantized parameters to match the full-precision velocity; ``null`` for
    not."""

    @model_validator(mode="after")
    def _check(self) -> MethodRow:
        if self.budget is None:
            return self
        if self.bits is not None:
            refuse(
                "bits",
                found="bits beside a budget",
                expected="one of the two",
                remedy="Leave out `bits`: a budget chooses among `sensitivity.widths`.",
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
