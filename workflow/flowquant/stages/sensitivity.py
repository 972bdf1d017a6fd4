"""Measure stored bits and velocity error of each tensor at each width, it alone quantized."""

from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from flowquant.config.compensation import DEFAULT, CompensationConfig
from flowquant.config.method import MethodConfig, SensitivityConfig
from flowquant.data.dataset import check_fits, read_dataset
from flowquant.models.model import load_network, read_model
from flowquant.models.path import velocity
from flowquant.quantization.apply import (
    DTYPES,
    as_float,
    check_widths,
    quantize_embedders,
    quantize_tensor,
    selected,
    within_range,
)
from flowquant.quantization.codebook import bits_of
from flowquant.quantization.compensate import Layer, bias_of, compensated_layer, usable
from flowquant.quantization.error import mean_squared_error
from flowquant.quantization.hessians import read_hessians
from flowquant.runtime import random
from flowquant.runtime.device import choose_device
from flowquant.runtime.files import sha256, write_json
from flowquant.runtime.names import DeviceName
from flowquant.sampling.trajectories import image_points


@torch.no_grad()
def sensitivity(
    model: Path,
    data: Path,
    output: Path,
    dataset: str,
    method: Annotated[MethodConfig, tyro.conf.arg(name="")],
    trials: SensitivityConfig,
    hessians: Path | None = None,
    compensate: CompensationConfig = DEFAULT,
    device: DeviceName = "auto",
) -> None:
    """Quantize one tensor at a time at each width and measure the error of the velocity.

    The velocity error E‖v_q − v‖² is the rise of the flow-matching loss for a network v that has
    reached the loss's minimum, and unlike that rise it can be measured without the loss's noise.

    Args:
        model: The full-precision model file.
        data: Dataset file; its training images are used.
        output: JSON to write: for each tensor and width stored bits, squared and velocity error.
        dataset: Name to write into the report.
        method: The quantizer, and for which parameters.
        trials: Widths, and number of images.
        hessians: The file that `hessians` wrote of this model, where the method compensates.
        compensate: How it does; layers, of which one is quantized at a time, are no sequence here.
        device: Where to compute.
    """
    weights, config = read_model(model)
    split, _ = read_dataset(data)
    check_fits(data, split, config.image, config.condition)
    torch_device = choose_device(device)
    network = load_network({n: t.to(torch_device, copy=True) for n, t in weights.items()}, config)
    parameters = dict(network.named_parameters())
    torch.manual_seed(random.key(0, "sensitivity"))
    images, labels = split.images.to(torch_device), split.labels.to(torch_device)
    points = image_points(images, labels, config.flow.sigma, trials.images)

    def velocities() -> Tensor:
        """The network's velocity, as its weights are now, at all points; [B, C, H, W]."""
        return torch.cat(
            [
                velocity(network, config.flow, part.x, part.t, part.condition)
                for part in points.split(512)
            ]
        )

    found = None
    if hessians is not None:
        found = read_hessians(hessians, sha256(model), weights, config.condition)

    def quantized(name: str, width: float) -> Layer:
        """The layer of a weight, as the method has it."""
        if found is None:
            with within_range(model):
                return Layer(quantize_tensor(parameters[name], method, width), None)
        moments = found.of(model, name).to(torch_device)
        with usable(model):
            start = quantize_tensor(parameters[name], method, width)
            return compensated_layer(name, parameters, moments, start, compensate.damping)

    target = velocities()
    chosen = sorted(selected(weights, config, method))
    check_widths(model, weights, method, dict.fromkeys(chosen, max(trials.widths)))
    tensors: dict[str, Any] = {}
    for name in tqdm(chosen, desc="sensitivity", unit="tensor"):
        changed = [n for n in (name, bias_of(name, weights)) if n is not None]
        originals, options = {n: parameters[n].clone() for n in changed}, []
        original = originals[name]
        most_bits = bits_of(original.to(DTYPES[method.levels_dtype]))
        for width in trials.widths:
            layer = quantized(name, width)
            book = layer.weight
            parameters[name].copy_(book.expand())
            if layer.bias is not None:
                parameters[changed[1]].copy_(layer.bias)
            options.append(
                {
                    "width": width,
                    "stored_bits": min(bits_of(book), most_bits),
                    "mean_squared_error": mean_squared_error(original, book.expand()),
                    "velocity_error": (velocities() - target).square().mean().item(),
                }
            )
            for changed_name, values in originals.items():
                parameters[changed_name].copy_(values)
        tensors[name] = {"values": original.numel(), "options": options}
    with within_range(model):
        early = quantize_embedders(weights, config, method)
        others = weights.keys() - tensors.keys() - early.keys()
        fixed = [*early.values(), *(as_float(name, weights[name], method) for name in others)]
    report = {
        "dataset": dataset,
        "parameters": sum(tensor.numel() for tensor in weights.values()),
        "fixed_bits": sum(map(bits_of, fixed)),
        "tensors": tensors,
    }
    write_json(output, report)
