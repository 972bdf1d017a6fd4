"""How much memory a training step takes, counted without taking it."""

import torch
from torch import Tensor

from flowquant.config.custom import CustomConfig
from flowquant.config.model import ModelConfig
from flowquant.config.training import TrainingConfig
from flowquant.models.model import build_network, empty_inputs, empty_network


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
    own = isinstance(model.network, CustomConfig)
    # Classes of the user's own may compute what "meta" cannot: a few images tell of the others.
    few = min(batch, 2) if own else batch
    network = (build_network if own else empty_network)(model).train()
    inputs = empty_inputs(model, few)
    if own:
        inputs = tuple(torch.zeros_like(part, device="cpu") for part in inputs)
    weights = {id(weight.untyped_storage()) for weight in network.parameters()}
    seen: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if id(tensor.untyped_storage()) not in weights:
            seen[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(*inputs)
    values = sum(
        tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in seen.values()
    )
    return values * batch // few
