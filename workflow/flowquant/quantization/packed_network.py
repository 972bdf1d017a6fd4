"""Networks whose quantized matrices stay packed in memory, expanded one at a time as needed."""

import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowquant.config.model import ModelConfig
from flowquant.models.model import empty_network
from flowquant.models.transformer import SelfAttention
from flowquant.quantization.packed_file import PackedTensor, values
from flowquant.quantization.packing import unpack

# Values expanded at a time: few enough that temporary indices are small compared with the matrix,
# and on a CPU stay in its cache.
CHUNK = {"cpu": 1 << 16, "cuda": 1 << 22}


class PackedLinear(nn.Module):
    """A linear layer [..., in] → [..., out] whose weight is packed indices and levels."""

    packed: Tensor
    levels: Tensor

    def __init__(self, weight: PackedTensor, bias: Tensor | None) -> None:
        super().__init__()
        self.bits, self.shape = weight.bits, weight.shape
        self.register_buffer("packed", weight.packed)
        self.register_buffer("levels", weight.levels)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def expand(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weight [out, in]."""
        count = self.shape[0] * self.shape[1]
        groups, levels = self.levels.shape
        flat = self.levels.to(dtype).flatten()
        weight = torch.empty(count, dtype=dtype, device=flat.device)
        # A multiple of 8 values is a whole number of bytes at every width.
        chunk = CHUNK.get(flat.device.type, 1 << 22)
        for start in range(0, count, chunk):
            end = min(start + chunk, count)
            part = self.packed[start * self.bits // 8 : -(-end * self.bits // 8)]
            index = unpack(part, self.bits, end - start)
            if groups > 1:
                position = torch.arange(start, end, device=flat.device, dtype=torch.int32)
                index += position.div_(count // groups, rounding_mode="floor").mul_(levels)
            torch.index_select(flat, 0, index, out=weight[start:end])
        return weight.view(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        if _kernel_fits(self, x) and _fused_is_faster(self, x):
            return self.fused(x)
        return F.linear(x, self.expand(self._dtype(x)), self.bias)

    def fused(self, x: Tensor) -> Tensor:
        """`forward` without the weight in memory, by a Triton kernel."""
        from flowquant.quantization.packed_kernel import packed_linear

        return packed_linear(
            x.to(self._dtype(x)), self.packed, self.levels, self.bits, self.shape[0], self.bias
        )

    def _dtype(self, x: Tensor) -> torch.dtype:
        """The type to compute in: autocast's, or that of ``x``."""
        kind = x.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


def _kernel_fits(layer: PackedLinear, x: Tensor) -> bool:
    """Whether the Triton kernel can multiply ``x`` by this layer's weight."""
    return (
        x.is_cuda
        and layer.bits in (1, 2, 4, 8)
        and len(layer.levels) in (1, layer.shape[0])
        and not torch.compiler.is_compiling()
        and _has_triton()
    )


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


# By the layer's and the input's size: whether the kernel was faster.
_measured: dict[tuple[object, ...], bool] = {}


def _fused_is_faster(layer: PackedLinear, x: Tensor) -> bool:
    """Whether the kernel beats expand-then-multiply for inputs of this size; measured once."""
    tokens = x.numel() // x.shape[-1]
    key = (layer.shape, layer.bits, len(layer.levels), tokens.bit_length(), layer._dtype(x))
    if key not in _measured:
        _measured[key] = _seconds(lambda: layer.fused(x)) < _seconds(
            lambda: F.linear(x, layer.expand(layer._dtype(x)), layer.bias)
        )
    return _measured[key]


def _seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds that ``work`` takes on the GPU, on average after a first time."""
    work()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


def load_packed(contents: Mapping[str, PackedTensor | Tensor], config: ModelConfig) -> nn.Module:
    """The network of a packed file's contents, its quantized matrices packed.

    Quantized tensors other than linear layers' matrices (embeddings, biases, norms) are small and
    expanded. The network is in evaluation mode, without gradients.
    """
    network = empty_network(config)
    weights = {name: values(content) for name, content in pack(network, contents).items()}
    # Not strict: packed layers have buffers of their own. A missing weight would stay on "meta".
    network.load_state_dict(weights, strict=False, assign=True)
    return network.eval().requires_grad_(False)


def pack(
    network: nn.Module, contents: Mapping[str, PackedTensor | Tensor]
) -> dict[str, PackedTensor | Tensor]:
    """Let layers whose matrices are packed hold them so; returns what is left to be filled in."""
    left = dict(contents)
    for name, content in contents.items():
        if isinstance(content, PackedTensor) and _is_matrix(network, name):
            owner, leaf = _owner(network, name)
            weight = getattr(owner, leaf)
            bias = left.pop(name.removesuffix("weight") + "bias", None)
            layer = PackedLinear(content, None if bias is None else values(bias).to(weight.dtype))
            if not weight.is_meta:
                layer.to(weight.device)
            del left[name]
            if isinstance(owner, SelfAttention):
                owner.in_projection = layer
                owner.in_proj_weight = owner.in_proj_bias = None  # type: ignore[assignment]
            else:
                parent, part = _owner(network, name.removesuffix(".weight"))
                setattr(parent, part, layer)
    return left


def _owner(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that holds what ``name`` names, and its name there."""
    path, _, leaf = name.rpartition(".")
    return network.get_submodule(path), leaf


def _is_matrix(network: nn.Module, name: str) -> bool:
    """Whether a weight is a matrix that a linear layer or an attention multiplies by."""
    owner, leaf = _owner(network, name)
    if isinstance(owner, SelfAttention):
        return leaf == "in_proj_weight"
    # A subclass may do otherwise, and its owner look at the weight itself; a root has no owner.
    return type(owner) is nn.Linear and leaf == "weight" and owner is not network
