"""Published checkpoints: state dicts in any of their usual wrappings, checked against a preset."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowquant.config.model import ModelConfig
from flowquant.models.model import DIVERGED, empty_network
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.tensors import check_finite, check_tensors, forms_of, read_tensors

# What weights are published as, and float32 holds.
FLOATS = "float16|bfloat16|float32|float64"


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state dict of a ``.safetensors``, ``.pt`` or ``.pth`` file, read without executing it.

    A state dict may be nested under ``model`` or ``state_dict``; a prefix ``module.`` is removed.

    Raises:
        UserError: if the file is unreadable, holds no state dict, or names a weight twice.
    """
    if path.suffix == ".safetensors":
        content: Any = read_tensors(path)[0]
    else:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as e:  # bytes that are no checkpoint make the reader raise anything
            raise UserError(
                path,
                found=f"no plain weights ({(str(e) or type(e).__name__).splitlines()[0]})",
                expected="a state dict of tensors, as torch.save writes it",
                remedy="Save `model.state_dict()` alone and name that file.",
            ) from e
    for nest in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(nest), Mapping):
            content = content[nest]
    if not isinstance(content, Mapping) or not all(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise UserError(
            path,
            found=f"a {type(content).__name__} that is no state dict",
            expected="tensors by name, at the top or under `model` or `state_dict`",
            remedy="Save `model.state_dict()` alone and name that file.",
        )
    names = [str(name).removeprefix("module.") for name in content]
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise UserError(
            path,
            found=f"weights both with and without `module.` in front: {some(twice)}",
            expected="each weight once",
            remedy="Save one of the two alone and name that file.",
        )
    return dict(zip(names, content.values(), strict=True))


def fitting_weights(path: Path, model: ModelConfig) -> dict[str, Tensor]:
    """The weights of a checkpoint that fits a preset, float32.

    Raises:
        UserError: if it is unreadable or does not fit, naming what is missing, unexpected and of
            another form, ten of each at most; or if weights are not finite as float32.
    """
    weights, forms = read_checkpoint(path), forms_of(empty_network(model), FLOATS)
    expected = f"the {len(forms)} weights of the preset's network"
    remedy = "Correct the preset's `network`, `image` and `condition`, or the checkpoint."
    check_tensors(path, weights, forms, expected, remedy)
    # A copy: weights of a checkpoint may share memory, which a file of ours does not.
    single = {
        name: tensor.detach().to(torch.float32, copy=True) for name, tensor in weights.items()
    }
    check_finite(path, single, f"{DIVERGED} Values past float32 count as infinite.")
    return single
