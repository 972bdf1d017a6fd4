"""Files of features of images, real ones and samples."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import Tensor

from flowquant.config.extractors import ExtractorName, classifies
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import sha256
from flowquant.runtime.header import Kind
from flowquant.runtime.tensors import read_file, write_tensors
from flowquant.sampling.samples import Origin


@dataclass(frozen=True)
class FeaturesMetadata:
    """Which network's features a file holds, and how far a neighbourhood reaches."""

    extractor: ExtractorName
    weights_sha256: str
    neighbours: Annotated[int, Field(ge=1)]


FEATURES = Kind(
    "file of features",
    "`real_features`",
    FeaturesMetadata,
    {"features": "float32 [N, F]", "radii": "float64 [N]"},
)


@dataclass(frozen=True)
class RealFeatures:
    """What `real_features` wrote: features of real images, float32 [M, F].

    ``radii`` are the distances of each to its ``neighbours``-th nearest other one, float64 [M];
    ``digest`` is the SHA-256 of the extractor's weights.
    """

    features: Tensor
    radii: Tensor
    neighbours: int
    digest: str


def write_features(
    path: Path,
    features: Tensor,
    radii: Tensor,
    extractor: ExtractorName,
    weights: Path,
    neighbours: int,
) -> None:
    """Write what `RealFeatures` holds; the ``weights`` are the extractor's."""
    metadata = FeaturesMetadata(extractor, sha256(weights), neighbours)
    write_tensors(path, {"features": features, "radii": radii}, asdict(metadata), FEATURES)


def read_features(path: Path, extractor: ExtractorName, digest: str) -> RealFeatures:
    """Read what `write_features` wrote, by an extractor whose weights have this SHA-256.

    Raises:
        UserError: if the file is unreadable, or its features come from another network or weights.
    """
    content = read_file(path, FEATURES)
    made = content.described
    check_made_by(path, made, extractor, digest)
    tensors = content.tensors
    if made.neighbours >= len(tensors["features"]):
        raise UserError(
            path,
            found=f"{made.neighbours} neighbours among {len(tensors['features'])} features",
            expected="fewer than there are",
            remedy="Use more test images, or fewer `evaluation.neighbours`.",
        )
    return RealFeatures(tensors["features"], tensors["radii"], made.neighbours, digest)


def check_comparable(path: Path, real: RealFeatures, features: Tensor) -> None:
    """Refuse to compare real features with those [N, F] of another network.

    Raises:
        UserError: naming the file of real features, ``path``.
    """
    if real.features.shape[1] != features.shape[1]:
        raise UserError(
            path,
            found=f"features of {real.features.shape[1]} numbers",
            expected=f"features of {features.shape[1]}, as the extractor gives them",
            remedy=FEATURES.remedy,
        )


@dataclass(frozen=True)
class SampledMetadata:
    """Which network's features a file holds, and of which samples."""

    extractor: ExtractorName
    weights_sha256: str
    origin: Origin


SAMPLED = Kind(
    "file of features of samples",
    "`features`",
    SampledMetadata,
    {"features": "float32 [N, F]", "labels": "int64 [N] or uint8 [N, A]"},
    {"logits": "float32 [N, C]"},
)


@dataclass(frozen=True)
class SampledFeatures:
    """What `features` wrote: features of samples, float32 [N, F], and their labels.

    These are the classes, int64 [N], or attributes, uint8 [N, A], that were asked for. A network
    that classifies gives ``logits`` too, float32 [N, C].
    """

    features: Tensor
    logits: Tensor | None
    labels: Tensor
    made: SampledMetadata


def write_sampled(path: Path, sampled: SampledFeatures) -> None:
    """Write features of samples."""
    tensors = {"features": sampled.features, "labels": sampled.labels}
    if sampled.logits is not None:
        tensors["logits"] = sampled.logits
    write_tensors(path, tensors, asdict(sampled.made), SAMPLED)


def read_sampled(path: Path) -> SampledFeatures:
    """Read what `write_sampled` wrote.

    Raises:
        UserError: if the file is unreadable or holds something else.
    """
    content = read_file(path, SAMPLED)
    tensors, made = content.tensors, content.described
    if classifies(made.extractor) != ("logits" in tensors):
        raise UserError(
            path,
            found=f"{' and '.join(sorted(tensors))} by {made.extractor}",
            expected=SAMPLED.described,
            remedy=SAMPLED.remedy,
        )
    return SampledFeatures(tensors["features"], tensors.get("logits"), tensors["labels"], made)


def check_made_by(
    path: Path,
    made: FeaturesMetadata | SampledMetadata,
    extractor: ExtractorName,
    digest: str,
) -> None:
    """Refuse features of another extractor, or of other weights than those with this SHA-256.

    Raises:
        UserError: naming the file of the features, ``path``.
    """
    if (made.extractor, made.weights_sha256) != (extractor, digest):
        raise UserError(
            path,
            found=f"features by {made.extractor} with weights {made.weights_sha256}",
            expected=f"features by {extractor} with weights {digest}",
            remedy="Delete the file and run the workflow again.",
        )
