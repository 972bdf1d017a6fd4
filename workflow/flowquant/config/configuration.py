"""A whole configuration: what a YAML file can say."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from flowquant.config.comparisons import ComparisonsSection
from flowquant.config.evaluation import EvaluationSection, FidelityConfig
from flowquant.config.fields import (
    EACH_ONCE,
    WHOLE,
    Count,
    Flag,
    Natural,
    Positive,
    Widths,
    Words,
    refuse,
    section,
    whole,
)
from flowquant.config.method import MethodRow
from flowquant.config.peer import PeerRow
from flowquant.config.preset import Preset
from flowquant.config.sampling import BATCH, SweepSection
from flowquant.config.variants import Variant
from flowquant.runtime.errors import some
from flowquant.runtime.names import DeviceName


def _without_nulls(rows: Any) -> Any:
    """``ot: null`` takes away a row that an earlier file added."""
    if not isinstance(rows, dict):
        return rows
    return {name: row for name, row in rows.items() if row is not None}


def _unreserved(*names: str) -> AfterValidator:
    def check(name: str) -> str:
        if name in names:
            raise ValueError(f"{name} means something else")
        return name

    return AfterValidator(check)


RunName = Annotated[
    str,
    Field(strict=True, max_length=100, pattern="^[A-Za-z0-9][A-Za-z0-9_-]*$"),
    _unreserved("data", "published", "h200"),
]
MethodName = Annotated[
    str,
    Field(strict=True, max_length=100, pattern="^[a-z0-9][a-z0-9_-]*$"),
    _unreserved("full", "real"),
]
PresetName = Annotated[str, Field(strict=True, max_length=100, pattern="^[a-z0-9][a-z0-9_]*$")]


@section
class BenchmarkSection:
    """How ``snakemake benchmark`` measures."""

    seconds: Positive = 60.0
    """About how long to measure a dataset; what does not fit is extrapolated, and said to be."""


@section
class PlotSection:
    """How figures look."""

    formats: Annotated[tuple[Literal["png", "svg", "pdf"], ...], Field(min_length=1), EACH_ONCE] = (
        "png",
        "svg",
    )
    """File formats of every figure."""

    dpi: Annotated[int, whole(ge=20, le=1200), WHOLE] = 150
    """Resolution of PNG files, dots an inch."""

    sample_columns: Annotated[int, whole(ge=1, le=100), WHOLE] = 10
    """Samples shown of each variant, evenly over all there are."""

    levels_of: Words | None = None
    """The weight whose histogram is drawn with its levels, such as
    ``transformer.layers.0.linear1.weight``; ``null``: each network's largest quantized one."""


@section
class Configuration:
    """A run: which datasets, quantized how, sampled and scored how."""

    run: RunName
    """Name of the run; its results go to ``results/<run>/``."""

    datasets: Annotated[tuple[PresetName, ...], Field(min_length=1), EACH_ONCE]
    """Presets to run, by name."""

    methods: Annotated[
        dict[MethodName, MethodRow], Field(min_length=1), BeforeValidator(_without_nulls)
    ]
    """Quantization methods, a row each; ``null`` takes away a row of an earlier file."""

    bits: Widths
    """Bit widths of every method that has none of its own."""

    peers: Annotated[
        dict[MethodName, PeerRow],
        BeforeValidator(_without_nulls),
        Field(default_factory=dict, json_schema_extra={"default": {}}),
    ]
    """Other projects' quantizers by their own code, a row each, to compare with; ``null`` takes
    away a row of an earlier file."""

    training_seeds: Annotated[tuple[Natural, ...], Field(min_length=1), EACH_ONCE] = (0,)
    """Seeds of training: each trains a model of each dataset, and all methods and sampling seeds
    are run on it. A dataset with a checkpoint has one model, that of the first of these; sweeps
    and figures that show one model show that of the first."""

    seeds: Annotated[tuple[Natural, ...], Field(min_length=1), EACH_ONCE] = (0,)
    """Sampling seeds. With several of these or of training, tables and plots show means."""

    data_root: Words = "data"
    """Folder that holds the original data files, or is to receive downloads."""

    device: DeviceName = "auto"
    """``auto`` takes a GPU where there is one, ``cuda`` demands it, ``cpu`` never asks for one."""

    batch: Count = BATCH
    """Images sampled at a time; changes speed and memory, no result (``dopri5``: within its
    tolerance)."""

    packed: Flag = False
    """Whether to sample with quantized matrices packed in memory, expanded one at a time as needed:
    least memory, not most speed; changes no result beyond rounding."""

    evaluation: EvaluationSection = EvaluationSection()
    """How samples are scored."""

    fidelity: FidelityConfig | None = None
    """How quantized variants are compared with full precision; ``null`` for not at all."""

    comparisons: ComparisonsSection = ComparisonsSection()
    """Which variants are compared."""

    theory: Flag = False
    """Whether to measure W₂ of each layer by POT, its decay per bit, and how well it predicts
    FID."""

    benchmark: BenchmarkSection = BenchmarkSection()
    """How ``snakemake benchmark`` measures."""

    sweep: SweepSection = SweepSection()
    """What ``snakemake sweep`` compares."""

    plot: PlotSection = PlotSection()
    """How figures look."""

    presets: Annotated[
        dict[PresetName, Preset], Field(min_length=1), BeforeValidator(_without_nulls)
    ]
    """Datasets with their networks, a preset each; ``null`` takes away one of an earlier file."""

    def widths(self, method: str) -> tuple[float, ...]:
        """A method's budgets where it has them, else its bit widths, else the run's."""
        if method in self.peers:
            return self.peers[method].bits
        row = self.methods[method]
        return row.budget or row.bits or self.bits

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Full precision, and every width of every method and peer."""
        return (
            Variant.parse("full"),
            *(
                Variant(method=method, bits=width)
                for method in (*self.methods, *self.peers)
                for width in self.widths(method)
            ),
        )

    @model_validator(mode="after")
    def _check(self) -> Configuration:
        for name in self.datasets:
            if name not in self.presets:
                refuse(
                    "datasets",
                    found=f"'{name}'",
                    expected=f"one of {some(sorted(self.presets))}",
                    remedy="Add a preset for it under `presets` (config/datasets.yaml has "
                    "examples).",
                )
            self._check_evaluation(name)
        for name in self.peers:
            if name in self.methods:
                refuse(
                    f"peers.{name}",
                    found=f"'{name}', which is a method, too",
                    expected="a name of its own",
                    remedy="Choose another: variants are named by it.",
                )
        made = [str(variant) for variant in self.variants]
        named = [("sweep.variants", variant) for variant in self.sweep.variants or ()]
        named += [("comparisons.pairs", v) for pair in self.comparisons.pairs for v in pair]
        for key, variant in named:
            if variant not in made:
                refuse(
                    key,
                    found=f"'{variant}'",
                    expected=f"one of {some(made)}",
                    remedy="Name a variant that `methods` and `bits` make, or leave the key out.",
                )
        self._check_over()
        return self

    def _check_over(self) -> None:
        """Intervals over seeds take two or more, those over samples resamples."""
        counts = {
            "training seeds": ("training_seeds", len(self.training_seeds), "seeds"),
            "sampling seeds": ("seeds", len(self.seeds), "seeds"),
            "samples": (
                "evaluation.metrics.resamples",
                self.evaluation.metrics.resamples,
                "resamples",
            ),
        }
        for level in self.comparisons.over or ():
            key, count, what = counts[level]
            if count < 2:
                refuse(
                    "comparisons.over",
                    found=f"'{level}', but {count} of `{key}`",
                    expected=f"two {what} or more, which an interval takes",
                    remedy=f"Add to `{key}`, or take '{level}' out of `comparisons.over`.",
                )
            imported = [name for name in self.datasets if self.presets[name].checkpoint]
            if level == "training seeds" and imported:
                refuse(
                    "comparisons.over",
                    found=f"'{level}', but a checkpoint of `{imported[0]}`, which is one model",
                    expected="levels of which every dataset has several",
                    remedy=f"Take '{level}' out, or run the dataset by itself.",
                )

    def _check_evaluation(self, name: str) -> None:
        preset = self.presets[name]
        if "classifier" in self.evaluation.extractors and preset.classifier is None:
            refuse(
                f"presets.{name}.classifier",
                found="no classifier, but `classifier` among `evaluation.extractors`",
                expected="a classifier, whose features are used",
                remedy="Give the preset a classifier or set `evaluation.extractors: "
                "[inception-v3-compat]`.",
            )
        splits = self.evaluation.metrics.is_splits
        if splits > preset.samples:
            refuse(
                "evaluation.metrics.is_splits",
                found=f"{splits} for the {preset.samples} samples of `{name}`",
                expected="at most one a sample",
                remedy="Use fewer splits, or sample more.",
            )
        if self.evaluation.metrics.neighbours >= preset.samples:
            refuse(
                "evaluation.metrics.neighbours",
                found=f"{self.evaluation.metrics.neighbours} for the {preset.samples} samples of "
                f"`{name}`",
                expected="fewer neighbours than samples",
                remedy="Look at fewer neighbours, or sample more.",
            )
