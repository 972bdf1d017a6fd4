"""How samples are scored, and compared with those of full precision."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from flowquant.config.extractors import ExtractorName, PublicName, WeightsConfig
from flowquant.config.fields import EACH_ONCE, WHOLE, Count, Flag, Natural, section, whole


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

    directions: Count = 1000
    """Random directions that the sliced Wasserstein distance averages over."""


@section
class MetricsSection(MetricsConfig):
    """Settings of the metrics."""

    neighbours: Count = 3
    """Neighbours of precision and recall."""


@section
class EvaluationSection:
    """How samples are scored."""

    extractors: Annotated[tuple[ExtractorName, ...], Field(min_length=1), EACH_ONCE] = (
        "inception-v3-compat",
    )
    """Networks whose features FID and KID compare, each in results of its own; the first is that of
    tables, figures and sweeps. torch-fidelity's Inception; DINOv2, of which timm has the network
    (``envs/requirements-dinov2.txt``); OpenAI's CLIP; ``efficientnet-lite0``, trained on ImageNet,
    which comes with two packages (``envs/requirements-efficientnet.txt``); or ``classifier``, the
    penultimate features of the dataset's own classifier. DINOv2 and CLIP do not classify, so they
    give no Inception Score."""

    floor: Flag = True
    """Whether to score as many real training images too, the floor of every metric (variant
    ``real``)."""

    weights: dict[PublicName, WeightsConfig] = Field(
        default_factory=dict, kw_only=True, json_schema_extra={"default": {}}
    )
    """Where weights come from, by extractor; what is not said is as published, with its
    SHA-256."""

    metrics: MetricsSection = MetricsSection()
    """Settings of the metrics."""


@section
class FidelityConfig:
    """How quantized variants are compared with full precision, from the same noise."""

    samples: Annotated[int, whole(ge=2), WHOLE] = 128
    """Samples whose trajectories are followed."""

    steps: Count = 50
    """Euler steps of a trajectory."""
