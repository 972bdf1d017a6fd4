"""What tables and figures need of the results that stages wrote as JSON, a file a variant."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

Counted = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Whose it is."""

    dataset: str
    variant: str
    training_seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class OfSamples(Result):
    """About the samples of a seed, ``n`` of them.

    ``start`` is a digest of the noise and labels that they began with.
    """

    seed: int
    n: Counted
    start: str | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Features of samples against those of real images.

    ``fid_resampled`` are FIDs of bootstrap resamples, the same of all variants with this seed and
    ``start``; ``fid_at`` those of fewer samples, by their number; ``fid_infinity`` is None
    where there are too few. An extractor without logits has no Inception Score.
    """

    n_real: Counted
    features: Counted
    weights_sha256: str
    fid: float
    fid_resampled: list[float]
    fid_at: dict[str, float]
    fid_infinity: float | None
    kid_mean: float
    kid_std: float
    is_mean: float | None
    is_std: float | None
    precision: float
    recall: float
    sliced_w2: float


@dataclass(frozen=True, kw_only=True)
class Downstream:
    """What a classifier recognizes in samples."""

    accuracy: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class Paths:
    """Errors over the times ``t``."""

    t: list[float]
    velocity_error: list[float]
    divergence: list[float]

    def __post_init__(self) -> None:
        if not len(self.t) == len(self.velocity_error) == len(self.divergence):
            raise ValueError("not as many errors as times")


@dataclass(frozen=True, kw_only=True)
class Fidelity:
    """How near a quantized model stays to full precision."""

    psnr: float
    ssim: float
    trajectories: Counted
    paths: Paths


@dataclass(frozen=True, kw_only=True)
class Scores(OfSamples):
    """What `score` wrote.

    ``evaluation`` is by extractor; ``evaluations`` is how often the velocity was evaluated for a
    sample. Sections are missing of what was not measured.
    """

    evaluation: dict[str, Evaluation]
    downstream: Downstream | None = None
    fidelity: Fidelity | None = None
    evaluations: float | None = None


@dataclass(frozen=True, kw_only=True)
class Size(Result):
    """What `train`, `import_model`, `quantize`, `refine` and `quantize_peer` wrote of a model's
    file."""

    effective_bits: float
    bytes: Counted
    counted: bool = False


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What `classifier` wrote."""

    dataset: str
    test_accuracy: float


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """FID of one solver and setting."""

    solver: str
    steps: Counted | None
    tolerance: float | None
    evaluations: Annotated[float, Field(gt=0)]
    fid: float
    seconds: float

    def __post_init__(self) -> None:
        if self.steps is None and self.tolerance is None:
            raise ValueError("neither steps nor a tolerance")


@dataclass(frozen=True, kw_only=True)
class Sweep(OfSamples):
    """What `sweep` wrote."""

    n_real: Counted
    extractor: str
    features: Counted
    rows: Annotated[list[SweepRow], Field(min_length=1)]


@dataclass(frozen=True, kw_only=True)
class Quantizer:
    """What quantized a variant."""

    levels: str
    granularity: str
    scope: str


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far a tensor is from what it stands for."""

    values: Counted
    variance: Annotated[float, Field(ge=0)]
    w2: Annotated[float, Field(ge=0)]
    mean_squared_error: Annotated[float, Field(ge=0)]


@dataclass(frozen=True, kw_only=True)
class Distances(Result):
    """What `distances` wrote."""

    refined: bool
    effective_bits: float
    method: Quantizer
    tensors: dict[str, Distance]
