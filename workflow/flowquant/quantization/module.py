"""Any module quantized in memory: ``flowquant.quantize``."""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import asdict
from typing import Any, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from flowquant.config.messages import explain_arguments
from flowquant.config.method import (
    RECOMMENDED,
    CodingName,
    FloatName,
    MethodConfig,
    ScopeName,
    whole_bits,
)
from flowquant.models.family import is_ours, matrices
from flowquant.quantization.apply import check_widths, chosen, quantize_weights, within_range
from flowquant.quantization.codebook import Codebook, Quantized, expand
from flowquant.quantization.packed_file import PackedTensor
from flowquant.quantization.record import Record, attach, record_of
from flowquant.runtime.errors import UserError, some

Module = TypeVar("Module", bound=nn.Module)

# Classes whose weights are looked up or scale what comes in, by the ends of their names.
NO_FACTORS = re.compile("(Embedding|EmbeddingBag|Norm|Norm[123]d)$")
# The same by the name of what holds a weight, where there are no classes to look at.
NO_FACTORS_BY_NAME = re.compile(
    r"(emb|embed|embedding|embeddings|norm|ln|wte|wpe)(_?\d+|_[a-z]|_tokens)?$"
)


def quantize(
    module: Module,
    bits: float,
    *,
    levels: str | Mapping[str, float] = RECOMMENDED.levels,
    granularity: str | Mapping[str, int] = RECOMMENDED.granularity,
    scope: ScopeName = RECOMMENDED.scope,
    keep: Iterable[str] = RECOMMENDED.keep,
    least_values: int = RECOMMENDED.least_values,
    levels_dtype: FloatName = RECOMMENDED.levels_dtype,
    float_dtype: FloatName = RECOMMENDED.float_dtype,
    coding: CodingName = RECOMMENDED.coding,
) -> Module:
    """A copy of a module whose weights have at most 2^bits levels for each of their groups.

    Of any module the weights of linear layers, convolutions and attention are quantized; biases,
    norms and embeddings stay float, in ``float_dtype`` or what is narrower already; buffers stay
    what they are, tied weights stay tied. The copy computes with the very values that
    ``flowquant.save`` writes, in the types that the module has; the original is not touched.

    Args:
        module: Any module with its weights in memory, on any device, in any float type.
        bits: Bits a value: width of an index, 1…16; with ``levels={"vector": d}`` a dth of it.
        levels: The quantizer (config/README.md, `methods`).
        granularity: Values that share levels: a whole ``tensor``, each ``row`` (index of axis 0: an
            output channel, or of a transposed convolution an input channel), ``{"group": g}``, or,
            with a scale of each row, ``scaled``: a tensor, or ``network``: all that are quantized.
        scope: Which parameters: those that multiply, or ``all``.
        keep: Name patterns of parameters to leave alone, ``*`` matching anything.
        least_values: Parameters with fewer values stay float.
        levels_dtype: How levels are stored.
        float_dtype: How parameters that are not quantized are stored.
        coding: How indices are stored: ``none``, or ``ans``, entropy-coded where that is smaller.

    Raises:
        UserError: if an argument is none of these, a weight is NaN or infinite (which is named) or
            beyond float16 where that is to be stored, or there is nothing to quantize.

    >>> import flowquant, torch
    >>> model = torch.nn.Conv2d(3, 8, 3)
    >>> small = flowquant.quantize(model, bits=2)
    >>> [len(channel.unique()) for channel in small.weight]
    [4, 4, 4, 4, 4, 4, 4, 4]
    """
    method = checked_method(
        levels=levels,
        granularity=granularity,
        scope=scope,
        keep=tuple(keep),
        least_values=least_values,
        levels_dtype=levels_dtype,
        float_dtype=float_dtype,
        coding=coding,
    )
    check_width(bits, method)
    parameters = dict(module.named_parameters())
    refuse_unusable("module", parameters)
    weights = {name: parameter.detach() for name, parameter in parameters.items()}
    scoped = set(weights) if method.scope == "all" else factors(module)
    names = chosen(weights, scoped, method)
    if not names:
        raise UserError(
            "module",
            found=f"nothing to quantize among {some(weights) or 'no parameters'}",
            expected="weights of linear layers, convolutions or attention",
            remedy="Set `scope='all'` for all parameters, or keep fewer.",
        )
    contents = quantize_contents("module", weights, names, method, bits)
    result = deepcopy(module)
    fill(result, contents)
    packed = {n: PackedTensor.of(c) for n, c in contents.items() if isinstance(c, Codebook)}
    attach(
        result, Record(packed, {"method": asdict(method), "bits": bits}, record_of(module).model)
    )
    return result


def checked_method(**arguments: Any) -> MethodConfig:
    """A method from arguments.

    Raises:
        UserError: naming the argument that is none.
    """
    try:
        return MethodConfig(**arguments)
    except ValidationError as error:
        raise explain_arguments(error) from None


def check_width(bits: float, method: MethodConfig) -> None:
    """Refuse bits a value of which an index has no whole number, from 1 to 16."""
    d = method.vector
    number = isinstance(bits, int) or (isinstance(bits, float) and d > 1)
    if isinstance(bits, bool) or not number or whole_bits(bits, d) is None:
        whole = "a whole number from 1 to 16"
        raise UserError(
            "bits",
            found=repr(bits),
            expected=whole if d == 1 else f"bits·{d} to be {whole}",
            remedy="2 to 4 are usual." if d == 1 else "Choose fewer bits or shorter vectors.",
        )


def quantize_contents(
    where: object,
    weights: Mapping[str, Tensor],
    names: set[str],
    method: MethodConfig,
    widths: float | Mapping[str, float | None],
) -> dict[str, Codebook | Tensor]:
    """Weights of any float type, quantized if they are named, else as they are stored.

    Raises:
        UserError: if a value is beyond the range of its stored type.
    """
    moved = {n: tensor.float() if n in names else tensor for n, tensor in weights.items()}
    given = widths if isinstance(widths, Mapping) else dict.fromkeys(names, widths)
    check_widths(where, moved, method, given)
    with within_range(where):
        return quantize_weights(moved, method, given)


def factors(module: nn.Module) -> set[str]:
    """Names of any module's weights that multiply: matrices and kernels, but no tables and norms.

    A tied weight that is a table somewhere is one. Networks of this package have their `matrices`.
    """
    if is_ours(module):
        return matrices(module)
    tables = {
        id(parameter)
        for owner in module.modules()
        if NO_FACTORS.search(type(owner).__name__)
        for parameter in owner.parameters(recurse=False)
    }
    return {
        name
        for name, parameter in module.named_parameters()
        if "weight" in name.rpartition(".")[2]
        and parameter.dim() > 1
        and id(parameter) not in tables
    }


def factors_by_name(weights: Mapping[str, Tensor]) -> set[str]:
    """As `factors`, of a checkpoint, by names: `norm1.weight` and `label_emb.weight` are none."""
    return {
        name
        for name, tensor in weights.items()
        if tensor.dim() > 1
        and "weight" in name.rpartition(".")[2]
        and not NO_FACTORS_BY_NAME.search(name.rpartition(".")[0].rpartition(".")[2].lower())
    }


def refuse_unusable(where: object, parameters: Mapping[str, Tensor]) -> None:
    """Refuse parameters that hold no values yet, or NaN, or infinity, naming them."""
    lazy = (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)
    empty = [name for name, p in parameters.items() if isinstance(p, lazy) or p.is_meta]
    if empty:
        raise UserError(
            where,
            found=f"no values yet in {some(empty)}",
            expected="weights in memory",
            remedy="Load the weights, or call a lazy module once, before quantizing.",
        )
    bad = [name for name, p in parameters.items() if not bool(p.detach().isfinite().all())]
    if bad:
        raise UserError(
            where,
            found=f"NaN or infinite weights in {some(bad)}",
            expected="finite weights",
            remedy="The training that made them diverged: use other weights.",
        )


@torch.no_grad()
def fill(module: nn.Module, contents: Quantized) -> None:
    """Copy values into a module's parameters by name, each in the parameter's own type."""
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, content in contents.items():
        parameters[name].copy_(expand(content))
