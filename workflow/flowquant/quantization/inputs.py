"""What any network multiplies its weights by, seen while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Values of rows that are looked at, and of a convolution's patches laid out, at a time.
MOST_VALUES = 1 << 22
aten = torch.ops.aten
# Where torch's products, which all layers come down to, have their input; the weight is next.
INPUT = {
    aten.mm.default: 0,
    aten.addmm.default: 1,
    aten.bmm.default: 0,
    aten.convolution.default: 0,
}


@dataclass(frozen=True)
class Product:
    """Inputs times a weight, a row for each output, as it is about to be computed.

    Args:
        weight: The weight's name.
        function: The function of torch that computes it, of ``args``.
        args: Its arguments, the input among them.
    """

    weight: str
    function: Any
    args: tuple[Any, ...]

    @property
    def input(self) -> Tensor:
        """Rows [m, n] or [B, m, n], or what is convolved [B, C, …]."""
        return self.args[INPUT[self.function]]

    @property
    def axis(self) -> int:
        """The axis of input and result that the points of a batch lie along, as a rule."""
        return int(self.function is aten.bmm.default and len(self.input) == 1)

    @property
    def groups(self) -> int:
        """Groups of channels that a convolution keeps apart."""
        return self.args[8] if self.function is aten.convolution.default else 1

    def rows(self, x: Tensor) -> Iterator[Tensor]:
        """What the rows of the weight are multiplied by, float32 [m, n], in parts.

        Those of a convolution are its patches; of groups of channels each has its own.
        """
        if self.function is not aten.convolution.default:
            rows = x.reshape(-1, x.shape[-1]).float()
            yield from rows.split(max(1, MOST_VALUES // rows.shape[1]))
            return
        kernel = self.args[1]
        images = max(1, MOST_VALUES // (kernel[0].numel() * x[0, 0].numel() * self.groups))
        for part in x.split(images):
            yield _patches(part.float(), kernel.shape[2:], self.args[3:6], self.groups)

    def result(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """What it makes of another input, or of another weight [out, in, …] too."""
        args, at = list(self.args), INPUT[self.function]
        if weight is None:
            weight = args[at + 1]
        elif self.function is not aten.convolution.default:
            weight = weight.flatten(1).T
        if self.function is aten.bmm.default:
            weight = (weight[0] if weight.dim() == 3 else weight).expand(len(x), -1, -1)
        args[at : at + 2] = x, weight
        return self.function(*args)

    def each(self, values: Tensor) -> Tensor:
        """A value for each output, as it is added to a result."""
        return values.view(-1, *[1] * len(self._kernel))

    @property
    def _kernel(self) -> Sequence[int]:
        convolved = self.function is aten.convolution.default
        return self.args[1].shape[2:] if convolved else ()


def _patches(
    x: Tensor,
    kernel: Sequence[int],
    strides: Sequence[Sequence[int]],
    groups: int,
) -> Tensor:
    """What a convolution multiplies its kernels by: [B·positions·groups, C/groups·kernel].

    ``strides`` are its stride, its padding and its dilation.
    """
    axes = len(kernel)
    stride, padding, dilation = (list(s) * (axes if len(s) == 1 else 1) for s in strides)
    x = F.pad(x, [p for pad in reversed(padding) for p in (pad, pad)])
    for axis, size in enumerate(kernel):
        reach = dilation[axis] * (size - 1) + 1
        x = x.unfold(2 + axis, reach, stride[axis])[..., :: dilation[axis]]
    x = x.unflatten(1, (groups, -1)).movedim(2, 2 + axes)
    return x.reshape(-1, x.shape[2 + axes :].numel())


class Inputs(TorchDispatchMode):
    """Under it every product with one of some weights is shown to ``seen``.

    Layers of all kinds come down to few functions of torch, which know a weight by where it lies in
    memory: so whether it is a module's of torch, a fused one or flattened makes no difference. One
    that something else than rows for outputs is made of is not seen.

    Args:
        weights: By name, each a contiguous tensor of its own, as the network has them.
        seen: What returns a product's result, or None to have it computed.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], seen: Callable[[Product], Tensor | None]
    ) -> None:
        super().__init__()
        self.places = {weight.data_ptr(): name for name, weight in weights.items()}
        self.shapes = {name: weight.shape for name, weight in weights.items()}
        self.seen = seen

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in INPUT:
            weight = args[INPUT[func] + 1]
            name = self.places.get(weight.data_ptr())
            if name is not None and self._whole(func, weight, self.shapes[name], args):
                result = self.seen(Product(name, func, args))
                if result is not None:
                    return result
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _whole(func: Any, weight: Tensor, shape: torch.Size, args: Any) -> bool:
        """Whether all of a weight is used as rows for outputs."""
        if func is aten.convolution.default:
            return weight.shape == shape and not args[6]
        rows = torch.Size((shape[0], shape[1:].numel()))
        matrix = (
            weight[0] if weight.dim() == 3 and 0 in (weight.stride(0), len(weight) - 1) else weight
        )
        return matrix.T.shape == rows and matrix.T.is_contiguous() if matrix.dim() == 2 else False
