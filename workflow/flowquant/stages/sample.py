"""Sample images from a variant of a model, from noise keyed by (seed, index)."""

from pathlib import Path
from typing import Annotated

import tyro

from flowquant.config.sampling import BATCH, SamplingConfig
from flowquant.quantization.variant import load_variant
from flowquant.runtime import workspaces
from flowquant.runtime.device import choose_devices
from flowquant.runtime.errors import UserError
from flowquant.runtime.names import DeviceName
from flowquant.sampling.generate import labels_to_sample, start_digest
from flowquant.sampling.samples import Origin, write_samples, write_samples_grid
from flowquant.sampling.shards import generate_sharded

# For a first look: seconds on a laptop's CPU.
FIRST_LOOK = SamplingConfig(solver="midpoint", steps=10, per_class=5)


def sample(
    model: Annotated[Path, tyro.conf.Positional],
    output: Path,
    dataset: str = "",
    variant: str = "",
    seed: int = 0,
    sampling: SamplingConfig = FIRST_LOOK,
    data: Path | None = None,
    batch: int = BATCH,
    packed: bool = False,
    device: DeviceName = "auto",
    devices: int = 1,
    training_seed: int = 0,
) -> None:
    """Sample images from a model file or a quantized model file, to look at or to score.

    Args:
        model: The variant's weights.
        output: To score: samples file to write, with images, labels, and evaluations of the
            velocity for an image. To look at, if the name ends in ``.png``: the first ten samples
            of each class, a row for each class.
        dataset: Name to write into a samples file.
        variant: Name to write into a samples file.
        training_seed: The seed that the model was trained with, to write into a samples file.
        seed: Of the noise.
        sampling: Solver, steps, number, condition and guidance.
        data: Dataset file, for the attributes of its test images.
        batch: Images integrated at a time.
        packed: Keep quantized matrices packed in memory and expand them as needed.
        device: Where to compute.
        devices: On how many devices; each samples a share of the images.

    Raises:
        UserError: if the weights cannot be read, there are too few test images or devices, or a
            samples file is to have no names.
    """
    to_look_at = output.suffix == ".png"
    if not (to_look_at or (dataset and variant)):
        raise UserError(
            output,
            found="neither a picture nor both of --dataset and --variant",
            expected="a name that ends in .png, or whose samples the file holds",
            remedy="Say `--output grid.png` to look at samples, or name dataset and variant.",
        )
    workspaces.do_without()
    network, config = load_variant(model, packed)
    labels = labels_to_sample(config.condition, sampling.per_class, sampling.condition, data)
    torch_devices = choose_devices(device, devices, "sampling.devices")
    images, evaluations = generate_sharded(
        network, config, labels, sampling, seed, batch, torch_devices, model, packed
    )
    if to_look_at:
        write_samples_grid(output, images, sampling.per_class)
        return
    start = start_digest(config, labels, seed)
    origin = Origin(dataset, variant, seed, evaluations, training_seed, start)
    write_samples(output, images, labels, origin)
