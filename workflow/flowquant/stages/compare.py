"""Differences of FID between variants of one dataset, with their intervals."""

from itertools import combinations
from pathlib import Path
from typing import Annotated

import tyro
from torch import Tensor

from flowquant.config.extractors import ExtractorName
from flowquant.config.variants import Variant
from flowquant.evaluation.bootstrap import (
    Distances,
    average,
    difference,
    resample_counts,
)
from flowquant.evaluation.features import check_comparable, extract, read_features
from flowquant.evaluation.frechet import Reference
from flowquant.report.tables import write_table
from flowquant.runtime.device import choose_device
from flowquant.runtime.errors import UserError
from flowquant.runtime.names import DeviceName
from flowquant.sampling.samples import read_samples

COLUMNS = (
    *("dataset", "variant", "other", "difference", "low", "high", "fid", "other_fid"),
    *("n", "seeds", "resamples"),
)


def compare(
    samples: Annotated[tuple[Path, ...], tyro.conf.Positional],
    real: Path,
    weights: Path,
    output: Path,
    extractor: ExtractorName,
    resamples: int = 200,
    device: DeviceName = "auto",
) -> None:
    """Compare the FIDs of variants, each with each, by a paired bootstrap.

    Args:
        samples: Samples files of one dataset's variants, of the same seeds: those of a seed share
            noise and labels.
        real: Features of the real test images, by the same extractor and weights.
        weights: The extractor's weights.
        output: CSV to write, a row for each pair: the difference of FID, 95 % intervals, and both.
        extractor: Which network.
        resamples: How often samples are drawn anew, with replacement.
        device: Where to compute.

    Raises:
        UserError: if files do not belong together.
    """
    of_real, target = read_features(real, extractor, weights), choose_device(device)
    reference = Reference(of_real.features, target)
    found: dict[Variant, dict[int, Distances]] = {}
    labels_of: dict[int, Tensor] = {}
    dataset = ""
    for path in samples:
        images, labels, origin = read_samples(path)
        shared, dataset = labels_of.setdefault(origin.seed, labels), dataset or origin.dataset
        if origin.dataset != dataset or not labels.equal(shared):
            raise _apart(path, "samples of another dataset, or of other labels, than those before")
        features, _ = extract(images, extractor, weights, target)
        check_comparable(real, of_real, features)
        counts = resample_counts(len(images), resamples, origin.seed)
        seeds = found.setdefault(Variant.parse(origin.variant, path), {})
        resampled = reference.distances(features, counts)
        seeds[origin.seed] = Distances(reference.distance(features), resampled)
    for variant, seeds in found.items():
        if missing := labels_of.keys() - seeds.keys():
            raise _apart(output, f"no samples of {variant} of seed {min(missing)}")
    if len(found) < 2:
        raise _apart(output, f"samples of {len(found)} variants, of which there is no difference")
    means = {v: average([seeds[s] for s in sorted(seeds)]) for v, seeds in sorted(found.items())}
    rows = []
    for (a, ours), (b, theirs) in combinations(means.items(), 2):
        interval = difference(ours, theirs)
        rows.append(
            {
                "dataset": dataset,
                "variant": str(a),
                "other": str(b),
                "difference": interval.difference,
                "low": interval.low,
                "high": interval.high,
                "fid": ours.whole,
                "other_fid": theirs.whole,
                "n": min(map(len, labels_of.values())),
                "seeds": len(labels_of),
                "resamples": resamples,
            }
        )
    write_table(output, COLUMNS, rows)


def _apart(where: Path, found: str) -> UserError:
    return UserError(
        where,
        found=found,
        expected="two variants or more of one dataset, no real images, each of the same seeds",
        remedy="Name the files `sampling/<dataset>/<variant>/seed<seed>.safetensors` of one run.",
    )
