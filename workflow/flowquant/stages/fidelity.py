"""How near a quantized model stays to the full-precision one, for the same noise."""

from dataclasses import asdict
from pathlib import Path

from flowquant.config.evaluation import FidelityConfig
from flowquant.evaluation.similarity import compare_paths, image_similarity
from flowquant.quantization.variant import load_variant
from flowquant.runtime.device import choose_device
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import write_json
from flowquant.runtime.names import DeviceName
from flowquant.sampling.samples import read_samples


def fidelity(
    model: Path,
    quantized: Path,
    model_samples: Path,
    quantized_samples: Path,
    output: Path,
    settings: FidelityConfig,
    device: DeviceName = "auto",
) -> None:
    """Compare a quantized model with the full-precision one.

    Args:
        model: The full-precision model file.
        quantized: The quantized model file.
        model_samples: Samples of the full-precision model.
        quantized_samples: Samples of the quantized model, of the same seed.
        output: JSON to write.
        settings: How many trajectories, in how many steps.
        device: Where to compute.

    Raises:
        UserError: if samples are not of the same noise and labels, or models not of one network.
    """
    reference, labels, full_origin = read_samples(model_samples)
    images, its_labels, origin = read_samples(quantized_samples)
    same = labels.equal(its_labels) and images.shape == reference.shape
    if origin.seed != full_origin.seed or not same:
        raise UserError(
            quantized_samples,
            found=f"seed {origin.seed} and images {list(images.shape)}",
            expected=f"the seed {full_origin.seed}, images {list(reference.shape)} and labels of "
            f"{model_samples}",
            remedy="Sample both with the same seed and number of samples.",
        )
    target = choose_device(device)
    (full, config), (other, its_config) = load_variant(model), load_variant(quantized)
    if its_config != config:
        raise UserError(
            quantized,
            found="another network than the full-precision one",
            expected=f"what {model} was quantized to",
            remedy="Name the files of the same dataset and run.",
        )
    report = {
        **asdict(origin),
        "n": len(images),
        **image_similarity(reference, images),
        "trajectories": settings.samples,
        **compare_paths(full.to(target), other.to(target), config, settings, origin.seed, target),
    }
    write_json(output, report)
