"""Features of the real test images, once per dataset and extractor."""

from __future__ import annotations

from pathlib import Path

from flowquant.artifacts import sha256, write_tensors
from flowquant.cli import run
from flowquant.dataset import read_dataset
from flowquant.device import DeviceName, choose_device
from flowquant.features import ExtractorName, extract


def real_features(
    data: Path,
    weights: Path,
    output: Path,
    extractor: ExtractorName,
    device: DeviceName = "auto",
) -> None:
    """Write the features of a dataset's test split.

    Args:
        data: Dataset file.
        weights: The extractor's weights.
        output: Features file to write.
        extractor: Which network.
        device: Where to compute.

    Raises:
        UserError: if the data or the weights are unreadable.
    """
    _, test = read_dataset(data)
    features, _ = extract(test.images, extractor, weights, choose_device(device))
    write_tensors(
        output,
        {"features": features},
        {"extractor": extractor, "weights_sha256": sha256(weights)},
    )


if __name__ == "__main__":
    run(real_features)
