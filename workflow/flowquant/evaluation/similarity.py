"""How near a quantized network stays to the full-precision one: images, paths, a middle layer."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from flowquant.config.evaluation import FidelityConfig
from flowquant.config.model import ModelConfig
from flowquant.models.path import velocity
from flowquant.sampling.trajectories import Trajectories, trajectory_points

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
def compare_paths(
    full: nn.Module,
    quantized: nn.Module,
    config: ModelConfig,
    settings: FidelityConfig,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """The trajectories of a full-precision and a quantized network from the same noise, compared.

    Returns:
        ``paths``, over the times ``t``: ``velocity_error``, E‖v_q − v‖² ÷ E‖v‖² at the points of
        full precision's trajectories; ``divergence``, the root mean squared difference of pixels
        (−1…1) between the two networks' trajectories. ``middle_layer``: the output's ``variance``
        over samples, patches and times, and ``full_variance``, that of full precision, means over
        its ``dimensions``; how many of these ``collapsed``.
    """
    count, steps = settings.samples, settings.steps
    exact, reference = _trajectories(full, config, count, steps, seed, device)
    other, its = _trajectories(quantized, config, count, steps, seed, device)
    errors = []
    for x, time in zip(exact.x, exact.t, strict=True):
        times = time.expand(count)
        target = velocity(full, config.flow, x, times, exact.condition)
        found = velocity(quantized, config.flow, x, times, exact.condition)
        errors.append(((found - target).square().mean() / target.square().mean()).item())
    divergence = (other.x - exact.x).square().flatten(1).mean(1).sqrt().tolist()
    return {
        "paths": {"t": exact.t.tolist(), "velocity_error": errors, "divergence": divergence},
        "middle_layer": {
            "variance": its.mean().item(),
            "full_variance": reference.mean().item(),
            "dimensions": len(its),
            "collapsed": int((its < COLLAPSED * reference).sum()),
        },
    }


def _trajectories(
    network: nn.Module, config: ModelConfig, count: int, steps: int, seed: int, device: torch.device
) -> tuple[Trajectories, Tensor]:
    """Trajectories, and the variance of each dimension of the middle layer, float64 [D]."""
    sums: list[Tensor] = []

    def note(_: nn.Module, __: Any, output: Tensor) -> None:
        if output.dim() > 3:  # the pixels of a U-Net are its tokens
            output = output.movedim(1, -1)
        tokens = output.flatten(0, -2).double()
        sums.append(torch.stack([tokens.sum(0), tokens.square().sum(0)]) / len(tokens))

    middle = network.middle
    assert isinstance(middle, nn.Module)
    hook = middle.register_forward_hook(note)
    try:
        trajectories = trajectory_points(network, config, count, steps, seed, device)
    finally:
        hook.remove()
    mean, square = torch.stack(sums).mean(0)
    return trajectories, square - mean.square()
