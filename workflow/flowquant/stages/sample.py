"""Sample images from a variant of a model, from noise keyed by (seed, index)."""

from pathlib import Path

from flowquant.config.sampling import BATCH, SamplingConfig
from flowquant.quantization.variant import load_variant
from flowquant.runtime.device import choose_devices
from flowquant.runtime.names import DeviceName
from flowquant.sampling.generate import labels_to_sample, start_digest
from flowquant.sampling.samples import Origin, write_samples, write_samples_grid
from flowquant.sampling.shards import generate_sharded


def sample(
    model: Path,
    output: Path,
    dataset: str,
    variant: str,
    seed: int,
    sampling: SamplingConfig,
    data: Path | None = None,
    batch: int = BATCH,
    packed: bool = False,
    device: DeviceName = "auto",
    devices: int = 1,
    grid: Path | None = None,
    training_seed: int = 0,
) -> None:
    """Sample images from a model file or a quantized model file.

    Args:
        model: The variant's weights.
        output: Samples file to write: images, labels, evaluations of the velocity for an image.
        dataset: Name to write into the samples file.
        variant: Name to write into the samples file.
        training_seed: The seed that the model was trained with, to write into the samples file.
        seed: Of the noise.
        sampling: Solver, steps, number, condition and guidance.
        data: Dataset file, for the attributes of its test images.
        batch: Images integrated at a time.
        packed: Keep quantized matrices packed in memory and expand them as needed.
        device: Where to compute.
        devices: On how many devices; each samples a share of the images.
        grid: PNG to write, too, where one is wanted: the first ten samples of each class, a row for
            each class.

    Raises:
        UserError: if the weights cannot be read, or there are too few test images or devices.
    """
    network, config = load_variant(model, packed)
    labels = labels_to_sample(config.condition, sampling.per_class, sampling.condition, data)
    torch_devices = choose_devices(device, devices, "sampling.devices")
    images, evaluations = generate_sharded(
        network, config, labels, sampling, seed, batch, torch_devices, model, packed
    )
    start = start_digest(config, labels, seed)
    origin = Origin(dataset, variant, seed, evaluations, training_seed, start)
    write_samples(output, images, labels, origin)
    if grid is not None:
        write_samples_grid(grid, images, sampling.per_class)
