"""How much memory a training step takes, counted without taking it."""

import torch
from torch import Tensor

from flowquant.config.model import ModelConfig
from flowquant.config.training import TrainingConfig
from flowquant.models.model import countable, empty_network


def training_bytes(
    model: ModelConfig, training: TrainingConfig, devices: int, dtype: torch.dtype
) -> dict[str, int]:
    """Bytes of a training step on each device, by what they are for; what plain PyTorch takes.

    Weights, gradients and AdamW's two moments are float32; so are the best weights so far and
    perhaps an average. Activations, of type ``dtype``, are those that the backward pass needs,
    counted on a network without memory.
    """
    parameters = sum(weight.numel() for weight in empty_network(model).parameters())
    copies = 5 if training.ema is None else 6
    activations = _saved_values(model, max(1, training.batch // devices)) * dtype.itemsize
    return {"weights and optimiser": 4 * copies * parameters, "activations": activations}


def _saved_values(model: ModelConfig, batch: int) -> int:
    """Values that the backward pass of a batch needs, besides the weights."""
    network, inputs, counted = countable(model, batch)
    weights = {id(weight.untyped_storage()) for weight in network.parameters()}
    seen: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor.untyped_storage()) not in weights:
            seen[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network.train()(*inputs)
    values = sum(
        tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in seen.values()
    )
    return values * batch // counted
