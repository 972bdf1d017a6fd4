"""Published checkpoints: state dicts in any of their usual wrappings, checked against a preset."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowquant.config.model import ModelConfig
from flowquant.models.model import check_finite, empty_network
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.tensors import read_tensors


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The state dict of a ``.safetensors``, ``.pt`` or ``.pth`` file, read without executing it.

    A state dict may be nested under ``model`` or ``state_dict``; a prefix ``module.`` is removed.

    Raises:
        UserError: if the file is unreadable or holds no state dict.
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
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def fitting_weights(path: Path, model: ModelConfig) -> dict[str, Tensor]:
    """The weights of a checkpoint that fits a preset.

    Raises:
        UserError: if it is unreadable or not finite; or it does not fit, naming what is missing,
            unexpected and of another shape, ten of each at most.
    """
    weights = read_checkpoint(path)
    wanted = {name: tuple(t.shape) for name, t in empty_network(model).state_dict().items()}
    problems = {
        "missing": sorted(set(wanted) - set(weights)),
        "unexpected": sorted(set(weights) - set(wanted)),
        "of another shape": [
            f"{name} {tuple(weights[name].shape)} for {shape}"
            for name, shape in wanted.items()
            if name in weights and tuple(weights[name].shape) != shape
        ],
    }
    if any(problems.values()):
        raise UserError(
            path,
            found="; ".join(f"{kind}: {some(what)}" for kind, what in problems.items() if what),
            expected=f"the {len(wanted)} weights of the preset's network",
            remedy="Correct the preset's `network`, `image` and `condition`, or the checkpoint.",
        )
    check_finite(path, weights)
    return weights
