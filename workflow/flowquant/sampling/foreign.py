"""Modules of others as velocity networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from flowquant.config.custom import refused_call
from flowquant.models.calls import Call, WrittenCall, tensor_of
from flowquant.runtime.errors import UserError


def caller(call: Call | str) -> Call:
    """How a module is called, where that is said as Python writes it; a function is one.

    Raises:
        UserError: if it is no call of ``x``, ``t`` and perhaps ``y``.
    """
    if callable(call):
        return call
    if (wrong := refused_call(call)) is not None:
        raise UserError("call", **wrong)
    return WrittenCall(call)


def device_of(module: nn.Module) -> torch.device:
    """Where a module's first tensor lies; the CPU for a module without tensors."""
    tensors = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def float_type(module: nn.Module) -> torch.dtype:
    """The type of a module's first floating-point parameter."""
    kinds = (p.dtype for p in module.parameters() if p.is_floating_point())
    return next(kinds, torch.float32)


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Products in ``dtype`` where it is a half type, and nothing else; fit for a CUDA graph."""
    half = dtype in (torch.bfloat16, torch.float16)
    return torch.autocast(device.type, dtype if half else None, half, cache_enabled=False)


class ForeignNetwork(nn.Module):
    """Any module behind `VelocityNetwork.forward`; it does not see which conditions are kept."""

    def __init__(self, module: nn.Module, call: Call, labelled: bool) -> None:
        super().__init__()
        self.module, self.call, self.labelled = module, call, labelled
        self.dtype = float_type(module)

    def cast(self, dtype: torch.dtype) -> None:
        """Compute in ``dtype`` by autocast: who knows what in a foreign module needs float32."""
        if self.dtype == torch.float32:
            self.dtype = dtype

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """The velocity, of the shape and type of ``x``."""
        given = condition if self.labelled else None
        with autocast(x.device, self.dtype):
            velocity = tensor_of(self.call(self.module, x, time.expand(len(x)), given))
        if velocity.shape != x.shape:
            raise UserError(
                "the module's output",
                found=f"shape {tuple(velocity.shape)}",
                expected=f"the state's, {tuple(x.shape)}",
                remedy="Check `shape`; a network that puts out more, such as a variance, is called "
                "by a `call` of yours that returns the velocity alone.",
            )
        return velocity.to(x.dtype)
