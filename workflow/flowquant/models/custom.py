"""A network class of the user's own as a family: what its `VelocityNetwork` is made of."""

import json
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from flowquant.config.custom import CustomConfig
from flowquant.config.model import ConditionConfig, ImageConfig, ModelConfig
from flowquant.models.calls import WrittenCall, tensor_of
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.own_code import load, reason, refuse_unless_allowed

CLASS = "configuration key `network.class`"
_LAYERS = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


class CustomNetwork(nn.Module):
    """The user's network, called as the package calls networks.

    Parameters, buffers and submodules are those of the user's network under its own names: both
    modules hold the same dictionaries. It is always made for real, since a class may hold tensors
    that nothing fills in afterwards; on "meta" only its parameters are left without memory.
    Constants (buffers) are parameters that are not trained, or, where they are no floating-point
    numbers, not stored: the class makes them anew.
    """

    middle: nn.Module
    # `keep` names what is to stay float: which modules they are cannot be known.
    embedders: tuple[nn.Module, ...] = ()

    def __init__(
        self, config: CustomConfig, image: ImageConfig, condition: ConditionConfig
    ) -> None:
        super().__init__()
        on_meta = torch.get_default_device().type == "meta"
        # Making a network that is to be filled draws nothing that others would draw.
        with torch.random.fork_rng([]) if on_meta else nullcontext(), torch.device("cpu"):
            own = _made(config).float()
        self.constants = _only_parameters(own)
        _refuse_tied(own)
        if on_meta:
            _without_memory(own)
        # Not by nn.Module's own way, which would put a name before those of all parameters.
        object.__setattr__(self, "_own", own)
        for part in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
            object.__setattr__(self, part, getattr(own, part))
        self._class, self._null_class = config.class_, config.null_class
        self._call, self._by_class = WrittenCall(config.call), condition.kind == "class"
        self._sees = config.condition != "none"
        self._reduced: torch.dtype | None = None
        self._middle = _middle(config, own)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            # After the user's own, of which one may be called so.
            if name == "middle":
                return self.get_submodule(self._middle)
            raise

    def train(self, mode: bool = True) -> "CustomNetwork":
        """Training mode, of the user's network too, which is none of our children."""
        self._own.train(mode)
        return super().train(mode)

    def forward(
        self, x: Tensor, time: Tensor, condition: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """The velocity [B, C, H, W], as `VelocityNetwork.forward` says."""
        seen = self._seen(condition, kept)
        with self._precision(x):
            out = self._call(self._own, x, time.expand(len(x)), seen)
        return tensor_of(out).to(x.dtype)

    def cast(self, dtype: torch.dtype) -> None:
        """Compute in ``dtype`` what PyTorch knows to be safe in it; weights stay float32."""
        self._reduced = dtype

    def _precision(self, x: Tensor) -> AbstractContextManager[object]:
        reduced = self._reduced
        return torch.autocast(x.device.type, reduced) if reduced is not None else nullcontext()

    def _seen(self, condition: Tensor, kept: Tensor | None) -> Tensor:
        if not self._by_class:
            return condition.float()
        if kept is None or not self._sees:
            return condition
        if self._null_class is None:
            raise UserError(
                "configuration key `network.null_class`",
                found="nothing, where a condition is to be withheld",
                expected=f"the class that means none to '{self._class}'",
                remedy="Name it, or sample without guidance.",
            )
        return condition.masked_fill(kept == 0, self._null_class)


def try_out(model: ModelConfig) -> None:
    """Make the network and call it once, on the CPU.

    Raises:
        UserError: if it cannot be imported, made or called, or gives anything but a velocity.
    """
    config, image = model.network, model.image
    assert isinstance(config, CustomConfig)
    network = CustomNetwork(config, image, model.condition).eval()
    seen: list[object] = []
    hook = network.middle.register_forward_hook(lambda *args: seen.append(args[2]))
    x = torch.zeros(2, image.channels, image.size, image.size)
    count = model.condition.count
    y = torch.arange(2) % count if model.condition.kind == "class" else torch.zeros(2, count)
    key = "configuration key `network.call`"
    try:
        with torch.no_grad():
            out = network(x, torch.zeros(2), y)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            key,
            found=f"'{config.call}', with which '{config.class_}' fails ({reason(error)})",
            expected=f"the arguments that it takes, for images {list(x.shape)} and times [2]",
            remedy="Correct `call`, `arguments`, `image` or `condition`, or the class.",
        ) from error
    finally:
        hook.remove()
    if out.shape != x.shape:
        raise UserError(
            key,
            found=f"'{config.class_}', which makes {list(out.shape)} of images {list(x.shape)}",
            expected="a velocity of the shape of its images",
            remedy="Correct the class or its `arguments`; what predicts more than a velocity needs "
            "a class that returns the velocity alone.",
        )
    if not (seen and isinstance(seen[0], Tensor) and seen[0].dim() > 1):
        raise UserError(
            "configuration key `network.middle`",
            found=f"'{network._middle}', whose output is no tensor with dimensions",
            expected="a module that is called, with an output [B, N, D] or [B, D, H, W]",
            remedy="Name another module of the network.",
        )


def _made(config: CustomConfig) -> nn.Module:
    refuse_unless_allowed(CLASS, config.class_)
    maker = load(CLASS, config.class_)
    try:
        network = maker(**json.loads(config.arguments))
    except Exception as error:
        raise UserError(
            "configuration key `network.arguments`",
            found=f"{config.arguments}, with which '{config.class_}' fails ({reason(error)})",
            expected="the arguments that it takes",
            remedy="Correct them, or the class.",
        ) from error
    if not isinstance(network, nn.Module):
        raise UserError(
            CLASS,
            found=f"'{config.class_}', which makes a {type(network).__name__}",
            expected="a torch.nn.Module, or a function that returns one",
            remedy="Name another class.",
        )
    return network


def _only_parameters(network: nn.Module) -> frozenset[str]:
    """Make constants parameters that are not trained; names of those that are no numbers."""
    constants = set()
    for path, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:
            raise UserError(
                CLASS,
                found=f"batch norm in `{path}`",
                expected="weights that only training steps change",
                remedy="Use group or layer norm, or `track_running_stats=False`.",
            )
        for name, buffer in list(module.named_buffers(recurse=False)):
            if name in module._non_persistent_buffers_set:
                continue
            if buffer.is_floating_point():
                del module._buffers[name]
                module.register_parameter(name, nn.Parameter(buffer, requires_grad=False))
            else:
                module._non_persistent_buffers_set.add(name)
                constants.add(f"{path}.{name}".lstrip("."))
    return frozenset(constants)


def _refuse_tied(network: nn.Module) -> None:
    own = [name for name, _ in network.named_parameters()]
    every = [name for name, _ in network.named_parameters(remove_duplicate=False)]
    if tied := sorted(set(every) - set(own)):
        raise UserError(
            CLASS,
            found=f"weights that are others, too: {some(tied)}",
            expected="one name for each weight",
            remedy="Hold each weight in one place, and use it in others.",
        )


def _without_memory(network: nn.Module) -> None:
    for module in network.modules():
        for name, weight in module.named_parameters(recurse=False):
            empty = torch.empty_like(weight, device="meta")
            module._parameters[name] = nn.Parameter(empty, weight.requires_grad)


def _middle(config: CustomConfig, network: nn.Module) -> str:
    """The name of the module to look at for latents."""
    modules = dict(network.named_modules())
    if config.middle is None:
        layers = [name for name, module in modules.items() if isinstance(module, _LAYERS)]
        return layers[len(layers) // 2] if layers else ""
    if config.middle not in modules:
        raise UserError(
            "configuration key `network.middle`",
            found=f"'{config.middle}'",
            expected=f"a module of '{config.class_}': {some(name for name in modules if name)}",
            remedy="Name one of them, or leave the key out.",
        )
    return config.middle
