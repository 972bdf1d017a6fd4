"""Networks whose quantized weights stay packed in memory, expanded one at a time as needed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowquant.config.model import ModelConfig
from flowquant.models.family import CONVOLUTIONS
from flowquant.models.model import empty_network
from flowquant.models.transformer import SelfAttention
from flowquant.quantization.codebook import dimension
from flowquant.quantization.expansion import MOST_BYTES, Turns
from flowquant.quantization.packed_file import PackedTensor, values
from flowquant.quantization.packing import in_bytes, take_rows, unpack
from flowquant.runtime.device import has_triton

# Values expanded at a time, so that a large weight's indices take no memory like its own; fewer are
# slower, for threads then wait for one another more often.
CHUNK = 1 << 22


class PackedWeight(nn.Module):
    """A layer's weight, packed in memory, in the place of its parameter.

    To torch's functions it is the weight: one that is called with it is called with the expanded
    weight, in the type that the other inputs are computed in. So a layer stays what it is, and a
    network in use takes the room of its file and one expanded weight, or two where they take
    `turns`.

    Args:
        weight: The codebook, packed.

    Attributes:
        turns: Memory to expand into, which a network's weights share; without it, memory is taken
            anew each time.
        factor: Of the values as e4m3, float32 [1]; none is 1.
    """

    packed: Tensor
    levels: Tensor
    scales: Tensor | None

    def __init__(self, weight: PackedTensor) -> None:
        super().__init__()
        self.bits, self.shape = weight.bits, weight.shape
        self.register_buffer("packed", weight.packed)
        self.register_buffer("levels", weight.levels)
        self.register_buffer("scales", weight.scales)
        self.turns: Turns | None = None
        self.factor: Tensor | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedWeight:
        # Moved with the network, but never cast: a level times its scale is rounded once, when the
        # weight is expanded.
        return super()._apply(lambda tensor: tensor.to(fn(tensor[:0]).device), recurse)

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Called by torch in place of ``function`` with a packed weight among its arguments."""
        dtype = _compute_dtype(args[0])
        # What is no product may keep the weight, or take several: those are not for now alone.
        product = function is F.linear or getattr(function, "__name__", "").startswith("conv")
        way = PackedWeight.dense if product else PackedWeight.expand
        expanded = [way(arg, dtype) if isinstance(arg, PackedWeight) else arg for arg in args]
        return function(*expanded, **kwargs or {})

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The weight for now: the next that is asked for may take its place."""
        if self.turns is not None and dtype.itemsize <= MOST_BYTES:
            return self.turns.expanded(self, dtype)
        return self.expand(dtype)

    def expand(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight."""
        if _kernel_serves(self.packed.device):
            weight = torch.empty(self.shape, dtype=dtype, device=self.packed.device)
            self.expand_into(weight)
            return weight
        return self._expand_in_chunks(dtype)

    def expand_into(self, out: Tensor) -> None:
        """Write the weight by the kernel."""
        from flowquant.quantization.packed_kernel import expand_into

        factor = self.factor if out.dtype == torch.float8_e4m3fn else None
        expand_into(out, self.packed, self.levels, self.scales, self.bits, factor)

    def _expand_in_chunks(self, dtype: torch.dtype) -> Tensor:
        d = dimension(self.levels)
        # With scales, rounded but once: after the product.
        levels = self.levels.to(dtype if self.scales is None else torch.float32)
        count = torch.Size(self.shape).numel() // d
        size = count // (len(levels) if self.scales is None else len(self.scales))
        # A multiple of 8 indices is a whole number of bytes at every width.
        chunk = max(8, CHUNK // d // 8 * 8)
        if whole := size % 8 == 0 and size <= chunk:
            chunk -= chunk % size
        chosen = self._chosen(levels, size, whole)

        def part(start: int, end: int) -> Tensor:
            found = chosen(
                self.packed[start * self.bits // 8 : -(-end * self.bits // 8)], start, end
            )
            if self.scales is not None:
                _scale(found, self.scales.float(), size, start, whole)
            return found

        if count <= chunk:
            return part(0, count).to(dtype).view(self.shape)
        weight = torch.empty((count, *[d] * (d > 1)), dtype=dtype, device=levels.device)
        for start in range(0, count, chunk):
            end = min(start + chunk, count)
            weight[start:end] = part(start, end)
        return weight.view(self.shape)

    def _chosen(
        self, levels: Tensor, size: int, whole: bool
    ) -> Callable[[Tensor, int, int], Tensor]:
        """What makes levels [n] or [n, d] of the bytes of indices ``start`` … ``end``.

        Args:
            levels: In the type to compute in, [G, L] or [G, L, d].
            size: Indices of each group, where there are several.
            whole: Whether such bytes are always those of whole groups.
        """
        bits, flat = self.bits, levels.flatten(0, 1)
        if len(levels) == 1 and 8 % bits == 0:
            # All of a byte's at once; it holds no index beyond the levels.
            table = flat[in_bytes(bits, flat.device).clamp_(max=len(flat) - 1)].flatten(1)
            return lambda part, start, end: take_rows(table, part.int()).view(-1, *flat.shape[1:])[
                : end - start
            ]
        groups = torch.arange(len(levels), device=flat.device, dtype=torch.int32)
        firsts = groups[:, None] * levels.shape[1]

        def found(part: Tensor, start: int, end: int) -> Tensor:
            index = unpack(part, bits, end - start)
            if len(levels) > 1 and whole:
                index.view(-1, size).add_(firsts[start // size : end // size])
            elif len(levels) > 1:
                index += _parts(start, end, size, flat.device).mul_(levels.shape[1])
            return take_rows(flat, index) if flat.dim() == 2 else flat.index_select(0, index)

        return found

    def flatten(self, start: int) -> PackedWeight:
        """The same weight [out, in·…], as `Tensor.flatten` from axis 1 on."""
        flat = copy(self)
        flat.shape = (*self.shape[:start], torch.Size(self.shape[start:]).numel())
        return flat


def _scale(values: Tensor, scales: Tensor, size: int, start: int, whole: bool) -> None:
    """Multiply values [n] or [n, d] from the one ``start`` on, ``size`` each, by their scale."""
    end = start + len(values)
    if whole:
        scale = scales[start // size : end // size, None]
        values.view(len(scale), -1).mul_(scale)
    else:
        scale = scales.index_select(0, _parts(start, end, size, scales.device))
        values *= scale.view(-1, *[1] * (values.dim() - 1))


def _parts(start: int, end: int, size: int, device: torch.device) -> Tensor:
    """Which part of ``size`` indices each of ``start`` … ``end`` belongs to, int32."""
    position = torch.arange(start, end, device=device, dtype=torch.int32)
    return position.div_(size, rounding_mode="floor")


def _compute_dtype(x: Tensor) -> torch.dtype:
    """The type to compute in: autocast's, or that of ``x``."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _kernel_serves(device: torch.device) -> bool:
    """Whether the kernel is to be used on a device."""
    return device.type == "cuda" and not torch.compiler.is_compiling() and _kernel_compiles(device)


@cache
def _kernel_compiles(device: torch.device) -> bool:
    """Whether the kernel compiles for a GPU; says so, once, where it does not."""
    if not has_triton():
        return False
    from flowquant.quantization.packed_kernel import expand_into

    packed = torch.zeros(48, dtype=torch.uint8, device=device)
    levels = torch.zeros(1, 8, dtype=torch.float16, device=device)
    out = torch.empty(8, 16, dtype=torch.bfloat16, device=device)
    try:
        expand_into(out, packed, levels, None, 3)
    except Exception as error:  # whatever Triton or its compiler raises on a GPU unknown to it
        why = str(error).partition("\n")[0]
        print(f"packed weights are expanded by PyTorch: {why}", file=sys.stderr)
        return False
    return True


def take_turns(network: nn.Module) -> None:
    """Let a network's packed weights be expanded, on a GPU, into memory that stays."""
    weights = [module for module in network.modules() if isinstance(module, PackedWeight)]
    if not weights or not _kernel_serves(weights[0].packed.device):
        return
    turns = Turns(weights, weights[0].packed.device)
    for weight in weights:
        weight.turns = turns


# Layers that give their one weight, of one of these names, to a function of torch and look at
# nothing else of it, but that it may be flattened.
PACKABLE = nn.Linear, *CONVOLUTIONS, SelfAttention
WEIGHTS = "weight", "in_proj_weight"


def load_packed(contents: Mapping[str, PackedTensor | Tensor], config: ModelConfig) -> nn.Module:
    """The network of a packed file's contents, the quantized weights of its layers packed.

    Other quantized tensors (embeddings, biases, norms) are small and expanded. The network is in
    evaluation mode, without gradients.
    """
    network = empty_network(config)
    left = keep_packed(network, contents)
    weights = {name: values(content).float() for name, content in left.items()}
    # Not strict: packed weights have buffers of their own. A missing weight would stay on "meta".
    network.load_state_dict(weights, strict=False, assign=True)
    return network.eval().requires_grad_(False)


def keep_packed(
    network: nn.Module, contents: Mapping[str, PackedTensor | Tensor]
) -> dict[str, PackedTensor | Tensor]:
    """Let layers hold their weights packed, where they can; returns what is left to fill in."""
    left = dict(contents)
    for name, content in contents.items():
        path, _, leaf = name.rpartition(".")
        if not isinstance(content, PackedTensor) or leaf not in WEIGHTS:
            continue
        layer = network.get_submodule(path)
        if isinstance(layer, PACKABLE):
            weight = getattr(layer, leaf)
            packed = PackedWeight(content)
            delattr(layer, leaf)
            setattr(layer, leaf, packed if weight.is_meta else packed.to(weight.device))
            del left[name]
    return left
