"""Look at what a model's layers are given at points of its flow: Hessians, for compensation."""

from dataclasses import asdict
from pathlib import Path

import torch

from flowquant.config.compensation import PointsConfig
from flowquant.data.dataset import check_fits, read_dataset
from flowquant.models.family import matrices
from flowquant.models.model import load_network, read_model
from flowquant.quantization.hessians import observed, write_hessians
from flowquant.runtime import random
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import sha256
from flowquant.runtime.names import DeviceName
from flowquant.sampling.trajectories import image_points, trajectory_points

# Euler steps of a trajectory, and how many of the points on it are used.
STEPS, USED = 50, 10


@torch.no_grad()
def hessians(
    model: Path,
    data: Path,
    output: Path,
    settings: PointsConfig,
    device: DeviceName = "auto",
) -> None:
    """Write the mean of x·xᵀ over the inputs x of each layer, which all methods share.

    Args:
        model: The full-precision model file.
        data: Dataset file; its training images are used, unless ``settings.source`` is
            trajectories.
        output: The safetensors file to write: the points, and for each matrix of a layer
            ``hessian`` [n, n] and ``mean`` [n] of its inputs of n values, a convolution's being
            patches.
        settings: How many points, and from where.
        device: Where to compute.

    Raises:
        UserError: if the points are too few for a layer, or an input is not finite.
    """
    weights, config = read_model(model)
    target = choose_device(device)
    network = load_network({name: w.to(target) for name, w in weights.items()}, config)
    split, _ = read_dataset(data)
    check_fits(data, split, config.image, config.condition)
    torch.manual_seed(random.key(0, "hessians"))
    if settings.source == "trajectories":
        count = -(-settings.points // USED)
        drawn = trajectory_points(network, config, count, STEPS, 0, target).draw(settings.points)
    else:
        images, labels = split.images.to(target), split.labels.to(target)
        drawn = image_points(images, labels, config.flow.sigma, settings.points)
    points = drawn.x, drawn.t, drawn.condition
    found = observed(model, network, config.flow, points, matrices(network))
    write_hessians(output, found, {"source_sha256": sha256(model), **asdict(settings)})
