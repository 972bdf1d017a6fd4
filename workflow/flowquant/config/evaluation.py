"""How samples are scored, and compared with those of full precision."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flowquant.config.fields import (
    EACH_ONCE,
    WHOLE,
    Count,
    Flag,
    Natural,
    Sha256,
    Url,
    Words,
    section,
    whole,
)

ExtractorName = Literal["inception-v3-compat", "efficientnet-lite0", "classifier"]


@section
class MetricsConfig:
    """Settings of the metrics that compare samples with real images."""

    kid_subsets: Count = 100
    """Subsets that KID averages over."""

    kid_subset_size: Annotated[int, whole(ge=2), WHOLE] = 1000
    """Images in a subset; cut to the images there are."""

    is_splits: Count = 10
    """Splits of the Inception Score, at most one a sample."""

    resamples: Natural = 200
    """Bootstrap resamples of samples, whose FIDs give intervals; 0 for none."""

    directions: Count = 500
    """Random directions that the sliced Wasserstein distance averages over."""


@section
class MetricsSection(MetricsConfig):
    """Settings of the metrics."""

    neighbours: Count = 3
    """Neighbours of precision and recall."""


@section
class WeightsConfig:
    """Where the extractor's weights come from."""

    path: Words | None = None
    """A file at hand, in place of Inception's download or the package's file."""

    urls: Annotated[tuple[Url, ...], Field(min_length=1)] = (
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
        "weights-inception-2015-12-05-6726825d.pth",
    )
    """Inception's mirrors, tried in order."""

    sha256: Sha256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
    """SHA-256 of the download."""


@section
class EvaluationSection:
    """How samples are scored."""

    extractors: Annotated[tuple[ExtractorName, ...], Field(min_length=1), EACH_ONCE] = (
        "inception-v3-compat",
    )
    """Networks whose features FID and KID compare, each in results of its own; the first is that of
    tables, figures and sweeps. torch-fidelity's Inception; ``efficientnet-lite0``, trained on
    ImageNet, which comes with two packages (``envs/requirements-efficientnet.txt``); or
    ``classifier``, the penultimate features of the dataset's own classifier."""

    floor: Flag = True
    """Whether to score as many real training images too, the floor of every metric (variant
    ``real``)."""

    weights: WeightsConfig = WeightsConfig()
    """Where the extractor's weights come from."""

    metrics: MetricsSection = MetricsSection()
    """Settings of the metrics."""


@section
class FidelityConfig:
    """How quantized variants are compared with full precision, from the same noise."""

    samples: Annotated[int, whole(ge=2), WHOLE] = 128
    """Samples whose trajectories are followed."""

    steps: Count = 50
    """Euler steps of a trajectory."""
