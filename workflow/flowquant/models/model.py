"""A velocity model as a file: float32 weights and all that is needed to use them."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowquant.config.model import ModelConfig
from flowquant.models.family import FAMILIES
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.tensors import read_tensors, write_tensors


def build_network(model: ModelConfig) -> nn.Module:
    """A fresh network of the configured family, initialised from torch's global generator."""
    network = FAMILIES[model.network.family](model.network, model.image, model.condition)
    assert isinstance(network, nn.Module)
    return network


def empty_network(model: ModelConfig) -> nn.Module:
    """A network on the device "meta": names and shapes, but no memory for weights."""
    with torch.device("meta"):
        return build_network(model)


def empty_inputs(model: ModelConfig, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images, times and conditions as `VelocityNetwork.forward` takes them, on "meta"."""
    image, condition = model.image, model.condition
    with torch.device("meta"):
        x = torch.empty(batch, image.channels, image.size, image.size)
        time = torch.empty(batch)
        if condition.kind == "class":
            return x, time, torch.empty(batch, dtype=torch.int64)
        return x, time, torch.empty(batch, condition.count)


def write_model(
    path: Path, weights: Mapping[str, Tensor], config: ModelConfig, provenance: Mapping[str, Any]
) -> None:
    """Write a model's weights, its configuration and where the weights came from.

    Floats become float32; integers stay what they are.
    """
    content = {n: t.float() if t.is_floating_point() else t for n, t in weights.items()}
    write_tensors(path, content, {"model": asdict(config), **provenance})


def read_model(path: Path) -> tuple[dict[str, Tensor], ModelConfig]:
    """Read what `write_model` wrote.

    Raises:
        UserError: if the file is unreadable, is no model, or has weights that are NaN or infinite.
    """
    weights, metadata = read_tensors(path)
    if "model" not in metadata:
        raise UserError(
            path,
            found="tensors without a model configuration",
            expected="a model written by `train` or `import_model`",
            remedy="Name a published checkpoint under `checkpoint:` in its dataset's preset, so "
            "that the workflow imports it.",
        )
    check_finite(path, weights)
    return weights, ModelConfig.from_dict(metadata["model"])


def load_network(weights: Mapping[str, Tensor], config: ModelConfig) -> nn.Module:
    """The network with these weights, in evaluation mode, without gradients."""
    network = empty_network(config)
    network.load_state_dict(dict(weights), strict=True, assign=True)
    return network.eval().requires_grad_(False)


def check_finite(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Refuse weights with NaN or infinity by a `UserError` that names the tensors at fault."""
    bad = [name for name, tensor in weights.items() if not tensor.isfinite().all()]
    if bad:
        raise UserError(
            path,
            found=f"NaN or infinite weights in {some(bad)}",
            expected="finite weights",
            remedy="The training that made them diverged: lower the learning rate and train "
            "again, or use another checkpoint.",
        )


def describe_model(path: Path, dataset: str) -> dict[str, Any]:
    """A report on a full-precision model file, with the keys of those on quantized ones."""
    weights, _ = read_model(path)
    return {
        "dataset": dataset,
        "variant": "full",
        "effective_bits": 32.0,
        "bytes": path.stat().st_size,
        "parameters": sum(tensor.numel() for tensor in weights.values()),
    }
