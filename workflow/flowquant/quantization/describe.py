"""What reports say of a stored tensor: its size, and how far it is from the original."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from flowquant.quantization.codebook import Codebook, bits_of, expand, values_of
from flowquant.quantization.error import mean_squared_error, wasserstein2


def errors(
    content: Codebook | Tensor,
    original: Tensor,
    distance: Callable[[Tensor, Tensor], float] = wasserstein2,
) -> dict[str, float]:
    """``mean_squared_error`` and ``w2`` of a stored tensor from the float32 one it stands for.

    ``distance`` is the implementation of W₂: `wasserstein2` or `wasserstein2_pot`.
    """
    values = expand(content).to(original.device)
    return {
        "mean_squared_error": mean_squared_error(original, values),
        "w2": distance(original, values),
    }


def measure(content: Codebook | Tensor, original: Tensor) -> dict[str, Any]:
    """What refinement can change of a stored tensor: its ``bytes`` and its `errors`."""
    return {"bytes": -(-bits_of(content) // 8), **errors(content, original)}


def describe(content: Codebook | Tensor, original: Tensor, granularity: str) -> dict[str, Any]:
    """A report's entry for a tensor: values, bytes, errors, bits a value, levels and groups.

    ``granularity`` is the method's; embedders have scales of their own in any case, and of a tensor
    that stayed float the entry says ``float``.
    """
    entry = {"values": values_of(content), **measure(content, original)}
    if isinstance(content, Codebook):
        groups, levels = content.levels.shape[:2]
        return entry | {
            "bits": content.bits,
            "levels": levels,
            "groups": groups,
            "granularity": granularity if content.common or content.scales is None else "scaled",
        }
    return entry | {"bits": 8 * content.element_size(), "granularity": "float"}
