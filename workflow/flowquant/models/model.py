"""A velocity model as a file: float32 weights and all that is needed to use them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from flowquant.config.custom import CustomConfig
from flowquant.config.model import ModelConfig
from flowquant.models.family import FAMILIES
from flowquant.runtime.errors import UserError
from flowquant.runtime.header import Kind
from flowquant.runtime.tensors import (
    check_finite,
    check_tensors,
    forms_of,
    read_file,
    read_metadata,
    read_tensors,
    write_tensors,
)

DIVERGED = (
    "The training that made them diverged: lower the learning rate and train again, or use another "
    "checkpoint."
)


@dataclass(frozen=True)
class ModelMetadata:
    """What a model file must say besides its weights."""

    model: ModelConfig


MODEL = Kind(
    "model",
    "`train` or `import_model`",
    ModelMetadata,
    remedy="Name a published checkpoint under `checkpoint:` in its dataset's preset, so that the "
    "workflow imports it; or delete the file and run the workflow again.",
)


def build_network(model: ModelConfig) -> nn.Module:
    """A fresh network of the configured family, initialised from torch's global generator."""
    network = FAMILIES[model.network.family](model.network, model.image, model.condition)
    assert isinstance(network, nn.Module)
    return network


def empty_network(model: ModelConfig) -> nn.Module:
    """A network on the device "meta": names and shapes, but no memory for weights."""
    with torch.device("meta"), _FormsAlone():
        return build_network(model)


class _FormsAlone(TorchFunctionMode):
    """Initialises nothing: for "meta" PyTorch would load its compiler first, a second or more."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        of_init = getattr(function, "__module__", None) == "torch.nn.init"
        scaled = function is Tensor.mul and not isinstance(arguments[1], Tensor)
        if of_init or scaled or function in (Tensor.normal_, Tensor.uniform_):
            return arguments[0] if arguments else named["tensor"]
        if function is torch.randn:
            function = torch.empty
        return function(*arguments, **(named or {}))


def empty_inputs(model: ModelConfig, batch: int) -> tuple[Tensor, ...]:
    """Images, times and conditions as `VelocityNetwork.forward` takes them, on "meta"."""
    image, condition = model.image, model.condition
    with torch.device("meta"):
        x = torch.empty(batch, image.channels, image.size, image.size)
        time = torch.empty(batch)
        if condition.kind == "class":
            return x, time, torch.empty(batch, dtype=torch.int64)
        return x, time, torch.empty(batch, condition.count)


def countable(model: ModelConfig, batch: int) -> tuple[nn.Module, tuple[Tensor, ...], int]:
    """A network and inputs to count on what a batch takes; and of how many images the inputs are.

    They are without memory, and of the whole batch. A class of the user's own may compute what
    "meta" cannot: it is made for real, and a few images tell of the others.
    """
    if not isinstance(model.network, CustomConfig):
        return empty_network(model), empty_inputs(model, batch), batch
    few = min(batch, 2)
    inputs = tuple(torch.zeros_like(part, device="cpu") for part in empty_inputs(model, few))
    return build_network(model), inputs, few


def write_model(
    path: Path, weights: Mapping[str, Tensor], config: ModelConfig, provenance: Mapping[str, Any]
) -> None:
    """Write float32 weights, the model's configuration and where the weights came from."""
    content = {name: tensor.float() for name, tensor in weights.items()}
    write_tensors(path, content, {"model": asdict(config), **provenance}, MODEL)


def read_model(path: Path) -> tuple[dict[str, Tensor], ModelConfig]:
    """Read what `write_model` wrote.

    Raises:
        UserError: if the file is unreadable, is no model, or has other weights than its network or
            some that are NaN or infinite.
    """
    content = read_file(path, MODEL)
    config = content.described.model
    forms = network_forms(path, config, "float32", len(content.tensors))
    check_tensors(path, content.tensors, forms, "the weights of its network", MODEL.remedy)
    check_finite(path, content.tensors, DIVERGED)
    return content.tensors, config


def read_weights(path: Path) -> tuple[dict[str, Tensor], ModelConfig | None]:
    """What `read_model` reads, or the tensors of a safetensors file of another program.

    Raises:
        UserError: if the file is unreadable, or of another kind of ours.
    """
    if read_metadata(path):
        return read_model(path)
    return read_tensors(path)[0], None


def network_forms(path: Path, config: ModelConfig, types: str, tensors: int) -> dict[str, str]:
    """The names and forms of the weights of a file's network, for `check_tensors`.

    Args:
        path: The file, for the error.
        config: What it says its network is.
        types: What the weights may be stored as.
        tensors: How many there are, which no network has more layers than.

    Raises:
        UserError: if there can be no such network.
    """
    try:
        if config.network.layers > tensors:
            raise ValueError(f"{config.network.layers} layers, for which {tensors} tensors are few")
        return forms_of(empty_network(config), types)
    except (RuntimeError, ValueError) as error:  # whatever sizes no tensor can have
        raise UserError(
            path,
            found=f"no such network as it says ({str(error).partition(chr(10))[0]})",
            expected=f"{MODEL.described}, or quantized from one",
            remedy=MODEL.remedy,
        ) from error


def load_network(weights: Mapping[str, Tensor], config: ModelConfig) -> nn.Module:
    """The network with these weights, in evaluation mode, without gradients."""
    network = empty_network(config)
    network.load_state_dict(dict(weights), strict=True, assign=True)
    return network.eval().requires_grad_(False)


def describe_model(path: Path, dataset: str, training_seed: int) -> dict[str, Any]:
    """A report on a full-precision model file, with the keys of those on quantized ones."""
    weights, _ = read_model(path)
    return {
        "dataset": dataset,
        "variant": "full",
        "training_seed": training_seed,
        "effective_bits": 32.0,
        "bytes": path.stat().st_size,
        "parameters": sum(tensor.numel() for tensor in weights.values()),
    }
