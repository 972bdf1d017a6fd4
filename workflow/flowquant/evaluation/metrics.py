"""FID, KID, Inception Score, precision and recall of samples against real images.

The Inception Score is torch-fidelity's. All else is computed as it does, but on any device: its
own, by NumPy on one CPU, take longer for 1,000 samples and 10,000 real images than a GPU to sample.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_fidelity.metric_isc import isc_features_to_metric

from flowquant.config.evaluation import MetricsConfig
from flowquant.evaluation.bootstrap import resample_counts
from flowquant.evaluation.extrapolation import at_infinity, distances_at
from flowquant.evaluation.features import RealFeatures
from flowquant.evaluation.frechet import Reference
from flowquant.evaluation.sliced import sliced_w2

# torch-fidelity's, so that the subsets are the same.
SUBSET_SEED = 2020
# Features whose distances from all others are held in memory at a time.
ROWS = 2048


def image_metrics(
    features: Tensor,
    logits: Tensor | None,
    real: RealFeatures,
    settings: MetricsConfig,
    seed: int,
) -> dict[str, Any]:
    """Compare features [N, F] and logits [N, classes] of samples with real images' features.

    Resamples and subsets follow from the samples' ``seed``, so FIDs of one list compare pairwise
    between variants. All is computed on the CPU: jobs score side by side, and GPUs stay free.

    Returns:
        ``fid``, ``fid_resampled`` (a list, `bootstrap`), ``fid_at`` (by numbers of samples) and
        ``fid_infinity`` (`extrapolation`), ``kid_mean`` and ``kid_std`` (over subsets),
        ``is_mean`` and ``is_std`` (over splits; None without logits), ``precision`` and ``recall``
        (of manifolds, Kynkäänniemi et al. 2019) and ``sliced_w2`` (`sliced`).
    """
    ours, theirs = features.double(), real.features.double()
    reference = Reference(theirs, theirs.device)
    at = distances_at(reference, ours, seed)
    resampled = reference.distances(ours, resample_counts(len(ours), settings.resamples, seed))
    size = min(settings.kid_subset_size, len(ours), len(theirs))
    kid_mean, kid_std = kernel_distance(ours, theirs, settings.kid_subsets, size)
    is_mean, is_std = inception_score(logits, settings.is_splits)
    return {
        "fid": at[len(ours)],
        "fid_resampled": resampled.tolist(),
        "fid_at": {str(n): distance for n, distance in at.items()},
        "fid_infinity": at_infinity(at, ours.shape[1]),
        "kid_mean": kid_mean,
        "kid_std": kid_std,
        "is_mean": is_mean,
        "is_std": is_std,
        "precision": inside_manifold(ours, theirs, real.radii),
        "recall": inside_manifold(theirs, ours, radii(ours, real.neighbours)),
        "sliced_w2": sliced_w2(ours, theirs, settings.directions),
    }


def inception_score(logits: Tensor | None, splits: int) -> tuple[float | None, float | None]:
    """Mean and standard deviation over splits, of logits [N, classes]; None of none."""
    if logits is None:
        return None, None
    score = isc_features_to_metric(logits, splits=splits)
    return score["inception_score_mean"], score["inception_score_std"]


def kernel_distance(features: Tensor, real: Tensor, subsets: int, size: int) -> tuple[float, float]:
    """Kernel Inception Distance (Bińkowski et al., 2018): unbiased MMD² of cubic kernels.

    Mean and standard deviation over random ``subsets``, of ``size`` images of each kind; features
    of samples [N, F] and of real images [M, F] are float64, on one device.
    """
    draws = np.random.RandomState(SUBSET_SEED)
    drawn = [
        [draws.choice(len(part), size, replace=False) for part in (features, real)]
        for _ in range(subsets)
    ]
    x, y = (torch.from_numpy(np.stack(rows)) for rows in zip(*drawn, strict=True))
    pairs = size * (size - 1)
    inside = kernel_sums(features, features, x, x) - _diagonal_sums(features, x)
    outside = kernel_sums(real, real, y, y) - _diagonal_sums(real, y)
    distances = (inside + outside) / pairs - 2 * kernel_sums(features, real, x, y) / size**2
    return distances.mean().item(), distances.std(correction=0).item()


def kernel_sums(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sums of the cubic kernel over all pairs of each subset, float64 [S].

    Features are [N, F] and [M, F], subsets indices into them, int64 [S, n] and [S, m]. What costs
    less is computed: the kernel of all pairs there are, once, or that of each subset.
    """
    rows, columns = rows.to(a.device), columns.to(a.device)
    if len(a) * len(b) > rows.numel() * columns.shape[1]:
        each = zip(rows, columns, strict=True)
        return torch.stack([_kernel(a[row], b[column]).sum() for row, column in each])
    counted = (
        torch.zeros(len(chosen), len(part), dtype=a.dtype, device=a.device).scatter_(1, chosen, 1)
        for part, chosen in ((a, rows), (b, columns))
    )
    of_a, of_b = counted
    sums = torch.zeros(len(rows), dtype=a.dtype, device=a.device)
    for part, weights in zip(a.split(ROWS), of_a.split(ROWS, dim=1), strict=True):
        sums += ((weights @ _kernel(part, b)) * of_b).sum(1)
    return sums


def _diagonal_sums(features: Tensor, subsets: Tensor) -> Tensor:
    """Sums of the kernel of each of a subset's features with itself, [S]."""
    return (features.square().mean(1) + 1).pow(3)[subsets.to(features.device)].sum(1)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1).pow_(3)


def radii(features: Tensor, neighbours: int) -> Tensor:
    """Distance of each of features [N, F] from its ``neighbours``-th nearest other one, [N]."""
    return torch.cat(
        [
            torch.cdist(part, features).topk(neighbours + 1, largest=False).values[:, -1]
            for part in features.split(ROWS)
        ]
    )


def inside_manifold(features: Tensor, others: Tensor, radius: Tensor) -> float:
    """Share of features [N, F] within the radius [M] of at least one of the others [M, F].

    The balls around the others estimate their manifold: samples inside that of real images are
    precision, real images inside that of samples recall (Kynkäänniemi et al., 2019, eq. 1–2).
    """
    inside = [(torch.cdist(part, others) <= radius).any(1) for part in features.split(ROWS)]
    return torch.cat(inside).double().mean().item()
