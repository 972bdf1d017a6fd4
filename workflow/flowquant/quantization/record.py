"""What a module carries besides its weights: how they were quantized, and what network it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from flowquant.config.model import ModelConfig
from flowquant.quantization.packed_file import PackedTensor
from flowquant.runtime.errors import UserError

_ATTRIBUTE = "_flowquant"


@dataclass(frozen=True)
class Record:
    """How a module's weights were quantized, and what network it is.

    Args:
        packed: Quantized parameters by name: what the module's hold, in the parameters' own type.
        about: The file's metadata (docs/format.md): ``method``, ``bits`` and, perhaps, ``refine``
            and ``source_sha256``.
        model: What the network is, if it is one of this package's families.
    """

    packed: Mapping[str, PackedTensor] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    model: ModelConfig | None = None


def record_of(module: nn.Module) -> Record:
    """What a module carries; an empty record if it carries nothing."""
    record = getattr(module, _ATTRIBUTE, None)
    return record if isinstance(record, Record) else Record()


def attach(module: nn.Module, record: Record) -> None:
    """Let a module carry a record, in copies and pickles, too; its state dict does not show it."""
    setattr(module, _ATTRIBUTE, record)


def quantized_record(module: nn.Module) -> Record:
    """The record of a quantized module whose weights are still what it says.

    Raises:
        UserError: if the module is not quantized, or a weight has changed since, or is packed in
            memory.
    """
    record, parameters = record_of(module), dict(module.named_parameters(remove_duplicate=False))
    problem = None
    if "method" not in record.about:
        problem = "one that is not quantized"
    for name, packed in record.packed.items():
        if name not in parameters:
            problem = f"`{name}` packed in memory"
        elif not _same(packed.unpack().expand(), parameters[name]):
            problem = f"`{name}` with other values than it was quantized to"
        if problem:
            break
    if problem:
        raise UserError(
            "module",
            found=problem,
            expected="what flowquant.quantize, refine or load returned",
            remedy="Quantize again what was changed since; a module that was loaded packed is in "
            "its file already.",
        )
    return record


def _same(values: Tensor, parameter: Tensor) -> bool:
    return values.to(parameter.device, parameter.dtype).equal(parameter.detach())
