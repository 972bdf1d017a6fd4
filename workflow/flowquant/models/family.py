"""Families of velocity networks: what all code after a network may know of it."""

from collections.abc import Callable, Container
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from flowquant.config.model import ConditionConfig, ImageConfig
from flowquant.models.custom import CustomNetwork
from flowquant.models.dit import Dit
from flowquant.models.transformer import FlowTransformer
from flowquant.models.unet import Unet


class VelocityNetwork(Protocol):
    """What a family's networks are, besides modules.

    All that training needs and quantization changes are parameters, whose names and shapes depend
    on the configuration alone: a network is made on the device "meta" and filled by name, so what
    else `forward` needs it computes from shapes. On a GPU `forward` is captured as a CUDA graph: it
    neither reads values nor copies from the CPU. In evaluation mode it draws nothing.
    """

    @property
    def middle(self) -> nn.Module:
        """The module whose output, [B, N, D] or [B, D, H, W], is looked at for its latents."""
        ...

    @property
    def embedders(self) -> tuple[nn.Module, ...]:
        """The modules that time and condition go through before anything else sees them.

        They are small, and all that the network does hangs on them: the scope ``matrices`` leaves
        them float.
        """
        ...

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """The velocity at ``x``.

        Args:
            x: Images [B, C, H, W], float32 whatever the network computes in.
            time: The clock's time times its scale, float32 [B], or [1] for all.
            condition: Classes int64 [B], or attributes 0/1 [B, A].
            kept: 1 where the condition is seen, 0 where it is withheld (condition dropout, or
                guidance's unconditional half); float [B], all 1 if omitted.

        Returns:
            Velocity [B, C, H, W], of the type of ``x``.
        """
        ...

    def cast(self, dtype: torch.dtype) -> None:
        """Compute in ``dtype``, a reduced precision, but what needs float32."""
        ...


# From its own section, the images and the condition; initialised from torch's global generator.
Family = Callable[[Any, ImageConfig, ConditionConfig], VelocityNetwork]
FAMILIES: dict[str, Family] = {
    "transformer": FlowTransformer,
    "unet": Unet,
    "dit": Dit,
    "custom": CustomNetwork,
}
CONVOLUTIONS = nn.Conv1d, nn.Conv2d, nn.Conv3d


def is_ours(module: nn.Module) -> bool:
    """Whether a module is a network of a family, and called as they are."""
    return type(module) in list[object](FAMILIES.values())


def matrices(network: nn.Module) -> set[str]:
    """Names of the weights that activations are multiplied by, a row for each output.

    They are the weights of linear layers and attention [out, in] and of convolutions [out, in, …].
    Tables of embeddings are no such weights, and the network's `VelocityNetwork.embedders` are left
    out.
    """
    return _matrices(network) - embedding_matrices(network)


def embedding_matrices(network: nn.Module) -> set[str]:
    """Names of such weights that are the network's `VelocityNetwork.embedders`'."""
    embedders = {part for module in getattr(network, "embedders", ()) for part in module.modules()}
    return _matrices(network, embedders)


def _matrices(network: nn.Module, within: Container[nn.Module] | None = None) -> set[str]:
    return {
        f"{module_name}.{name}".lstrip(".")
        for module_name, module in network.named_modules()
        if within is None or module in within
        for name, parameter in module.named_parameters(recurse=False)
        if (parameter.dim() == 2 and not isinstance(module, nn.Embedding))
        or (name == "weight" and isinstance(module, CONVOLUTIONS))
    }
