"""Features of the real test images and their neighbourhoods, once per dataset and extractor."""

from pathlib import Path

from flowquant.config.extractors import ExtractorName
from flowquant.data.dataset import read_dataset
from flowquant.evaluation.extract import extract
from flowquant.evaluation.features import write_features
from flowquant.evaluation.metrics import radii
from flowquant.runtime.device import choose_device
from flowquant.runtime.errors import UserError
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

    Raises:
        UserError: if there are too few test images, or the weights cannot be read.
    """
    _, test = read_dataset(data)
    if len(test) <= neighbours:
        raise UserError(
            data,
            found=f"{len(test)} test images",
            expected=f"more than {neighbours}, the neighbours of each that are looked for",
            remedy="Bring more test images, or lower `evaluation.metrics.neighbours`.",
        )
    target = choose_device(device)
    features, _ = extract(test.images, extractor, weights, target)
    reach = radii(features.to(target).double(), neighbours).cpu()
    write_features(output, features, reach, extractor, weights, neighbours)
