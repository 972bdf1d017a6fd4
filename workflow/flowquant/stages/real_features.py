"""Features of the real test images and their neighbourhoods, once per dataset and extractor."""

from pathlib import Path

from flowquant.config.evaluation import ExtractorName
from flowquant.data.dataset import read_dataset
from flowquant.evaluation.features import extract, write_features
from flowquant.evaluation.metrics import radii
from flowquant.runtime.device import choose_device
from flowquant.runtime.names import DeviceName


def real_features(
    data: Path,
    weights: Path,
    output: Path,
    extractor: ExtractorName,
    neighbours: int,
    device: DeviceName = "auto",
) -> None:
    """Write the features of a dataset's test split, and how far each one's neighbours are.

    Args:
        data: Dataset file.
        weights: The extractor's weights.
        output: Features file to write.
        extractor: Which network.
        neighbours: How many a neighbourhood, for precision and recall, reaches to.
        device: Where to compute.
    """
    _, test = read_dataset(data)
    target = choose_device(device)
    features, _ = extract(test.images, extractor, weights, target)
    reach = radii(features.to(target).double(), neighbours).cpu()
    write_features(output, features, reach, extractor, weights, neighbours)
