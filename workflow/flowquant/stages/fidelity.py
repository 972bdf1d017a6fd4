"""How near a quantized model stays to the full-precision one, for the same noise."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowquant.config.evaluation import FidelityConfig
from flowquant.config.model import ModelConfig
from flowquant.models.path import velocity
from flowquant.quantization.variant import load_variant
from flowquant.runtime.device import choose_device
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import write_json
from flowquant.runtime.names import DeviceName
from flowquant.sampling.samples import read_samples
from flowquant.sampling.trajectories import trajectory_points

# A dimension has collapsed when its variance is less than this share of full precision's.
COLLAPSED = 0.01


def image_similarity(reference: Tensor, images: Tensor) -> dict[str, float]:
    """PSNR in dB and SSIM of uint8 images [N, C, H, W] against reference ones, by scikit-image.

    PSNR is that of all images' mean squared error together (infinite PSNRs of equal pairs would
    spoil a mean over images); SSIM is the mean over images, with windows of 7 pixels.
    """
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    first, second = reference.numpy(), images.numpy()
    similarity = [
        structural_similarity(a, b, data_range=255, channel_axis=0)
        for a, b in zip(first, second, strict=True)
    ]
    with np.errstate(divide="ignore"):
        ratio = float(peak_signal_noise_ratio(first, second, data_range=255))
    # JSON has no infinity; 100 dB is beyond what differing uint8 images can have.
    return {"psnr": min(ratio, 100.0), "ssim": float(np.mean(similarity))}


@torch.no_grad()
def path_errors(
    full: nn.Module,
    quantized: nn.Module,
    config: ModelConfig,
    settings: FidelityConfig,
    seed: int,
    device: torch.device,
) -> dict[str, list[float]]:
    """Errors over time, along the trajectories of the full-precision and the quantized network.

    Returns:
        ``t``; ``velocity_error``: E‖v_q − v‖² ÷ E‖v‖² at the points of full precision's
        trajectories; ``divergence``: root mean squared difference of pixels (−1…1) between the
        two networks' trajectories from the same noise.
    """
    count, steps = settings.samples, settings.steps
    exact = trajectory_points(full, config, count, steps, seed, device)
    other = trajectory_points(quantized, config, count, steps, seed, device)
    errors = []
    for x, time in zip(exact.x, exact.t, strict=True):
        told = time.expand(count)
        target = velocity(full, config.flow, x, told, exact.condition)
        found = velocity(quantized, config.flow, x, told, exact.condition)
        errors.append(((found - target).square().mean() / target.square().mean()).item())
    divergence = (other.x - exact.x).square().flatten(1).mean(1).sqrt()
    return {"t": exact.t.tolist(), "velocity_error": errors, "divergence": divergence.tolist()}


@torch.no_grad()
def middle_variance(
    network: nn.Module,
    config: ModelConfig,
    settings: FidelityConfig,
    seed: int,
    device: torch.device,
) -> Tensor:
    """Variance of each dimension of the middle layer's output over samples, patches and times.

    Returns:
        float64 [D], along the network's own trajectories.
    """
    layers = network.get_submodule("transformer.layers")
    middle = layers[len(layers) // 2]  # type: ignore[index, arg-type]
    sums: list[Tensor] = []

    def note(_: nn.Module, __: Any, output: Tensor) -> None:
        tokens = output.flatten(0, 1).double()
        sums.append(torch.stack([tokens.sum(0), tokens.square().sum(0)]) / len(tokens))

    hook = middle.register_forward_hook(note)
    try:
        trajectory_points(network, config, settings.samples, settings.steps, seed, device)
    finally:
        hook.remove()
    mean, square = torch.stack(sums).mean(0)
    return square - mean.square()


def fidelity(
    model: Path,
    quantized: Path,
    model_samples: Path,
    quantized_samples: Path,
    output: Path,
    fidelity: FidelityConfig,
    device: DeviceName = "auto",
) -> None:
    """Compare a quantized model with the full-precision one.

    Args:
        model: The full-precision model file.
        quantized: The quantized model file.
        model_samples: Samples of the full-precision model.
        quantized_samples: Samples of the quantized model, of the same seed.
        output: JSON to write.
        fidelity: How many trajectories, in how many steps.
        device: Where to compute.

    Raises:
        UserError: if a file is unreadable, or the samples are not of the same noise and labels.
    """
    reference, labels, full_origin = read_samples(model_samples)
    images, its_labels, origin = read_samples(quantized_samples)
    if origin.seed != full_origin.seed or not labels.equal(its_labels):
        raise UserError(
            quantized_samples,
            found=f"seed {origin.seed} and {len(its_labels)} labels",
            expected=f"the seed {full_origin.seed} and labels of {model_samples}",
            remedy="Sample both with the same seed and number of samples.",
        )
    where = choose_device(device)
    (full, config), (other, _) = load_variant(model), load_variant(quantized)
    full, other = full.to(where), other.to(where)
    variances = [
        middle_variance(network, config, fidelity, origin.seed, where) for network in (full, other)
    ]
    write_json(
        output,
        {
            **asdict(origin),
            "n": len(images),
            **image_similarity(reference, images),
            "trajectories": fidelity.samples,
            "paths": path_errors(full, other, config, fidelity, origin.seed, where),
            "middle_layer": {
                "variance": variances[1].mean().item(),
                "full_variance": variances[0].mean().item(),
                "dimensions": len(variances[1]),
                "collapsed": int((variances[1] < COLLAPSED * variances[0]).sum()),
            },
        },
    )
