"""Published checkpoints: state dicts in any of their usual wrappings, checked against a preset."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowquant.config.checkpoint import checkpoint_files
from flowquant.config.model import ModelConfig
from flowquant.models.model import DIVERGED, empty_network
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.tensors import check_finite, check_tensors, forms_of, read_tensors

# What weights are published as, and float32 holds.
FLOATS = "float16|bfloat16|float32|float64"
# What weights lie under, a moving average before what it is of: torchcfm (ema_model, net_model),
# SiT and DiT (ema, model), Lightning (state_dict), flow_matching (`_averages`).
SHADOWS = "shadow_params"
NESTS = ("ema_model", "model_ema", "ema", SHADOWS, "net_model", "model", "state_dict")
# In front of names: torch.nn.DataParallel's and DistributedDataParallel's; torch.compile's.
WRAPPERS = re.compile(r"^(?:module\.|_orig_mod\.)+|(?<=\.)_orig_mod\.")
ALONE = "Save `model.state_dict()` alone and name that file."
# With fewer of its names than this share, a checkpoint is of another network altogether.
RELATED = 0.5
STRIPPED = """Leave it out, in Python, and name the new file:
    import argparse, torch; torch.serialization.add_safe_globals([argparse.Namespace])
    torch.save({{k: v for k, v in torch.load("{}").items() if k != "args"}}, "{}")"""
OTHERWISE = (
    "Choose the network that it is of: `family: unet` (torchcfm, guided-diffusion), `dit` (DiT, "
    "SiT), or `custom`, a class of your own; in Python, `flowquant.quantize` takes any module."
)


def read_checkpoint(
    path: Path, weights: str | None = None, frozen: Collection[str] = ()
) -> tuple[dict[str, Tensor], str]:
    """A state dict of a published file or files, read without executing them.

    Args:
        path: ``.safetensors``, ``.pt`` or ``.pth``; or the index, or the folder, of several.
        weights: The name that it lies under, with dots where one lies in another; where that holds
            several itself, and without it, the first of `NESTS` is taken.
        frozen: Names of tensors that are not trained, of which there are no averages.

    Returns:
        The tensors by name, without what parallel and compiled modules put in front; and what they
        lie under, which is nothing for plain state dicts.

    Raises:
        UserError: if a file is unreadable, holds no state dict, or names a weight twice.
    """
    content = _content(path)
    taken: list[str] = []
    wanted = weights.split(".") if weights else []
    while choices := _choices(path, content, frozen):
        name = wanted.pop(0) if wanted else next(nest for nest in NESTS if nest in choices)
        if name not in choices:
            break
        taken.append(name)
        content = choices[name]
    if weights and ".".join(taken[: weights.count(".") + 1]) != weights:
        raise UserError(
            path,
            found=f"no weights under `{weights}`",
            expected=f"one of {some(choices) or 'none, since they lie at the top'}",
            remedy="Correct the preset's `checkpoint.weights`, or leave it out.",
        )
    if not isinstance(content, Mapping) or not all(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise UserError(
            path,
            found=f"a {type(content).__name__} that is no state dict",
            expected=f"tensors by name, at the top or under one of {', '.join(NESTS)}",
            remedy=ALONE,
        )
    names = [WRAPPERS.sub("", str(name)) for name in content]
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise UserError(
            path,
            found=f"weights both with and without `module.` in front: {some(twice)}",
            expected="each weight once",
            remedy="Save one of the two alone and name that file.",
        )
    return dict(zip(names, content.values(), strict=True)), ".".join(taken)


def fitting_weights(
    path: Path, model: ModelConfig, weights: str | None = None
) -> tuple[dict[str, Tensor], str]:
    """The weights of a checkpoint that fits a preset, float32, and what they lie under in it.

    Raises:
        UserError: if it is unreadable or does not fit, naming what is missing, unexpected and of
            another form, ten of each at most; or if weights are not finite as float32.
    """
    network = empty_network(model)
    trained = {name for name, weight in network.named_parameters() if weight.requires_grad}
    constants: frozenset[str] = getattr(network, "constants", frozenset())
    frozen = constants | (network.state_dict().keys() - trained)
    found, taken = read_checkpoint(path, weights, frozen)
    found = {name: tensor for name, tensor in found.items() if name not in constants}
    forms = forms_of(network, FLOATS)
    if len(forms.keys() & found.keys()) < RELATED * min(len(forms), len(found)):
        raise UserError(
            path,
            found=f"weights of another architecture: {some(found, 3)}",
            expected=f"those of `network.family: {model.network.family}`: {some(forms, 3)}",
            remedy=OTHERWISE,
        )
    expected = f"the {len(forms)} weights of the preset's network"
    remedy = "Correct the preset's `network`, `image` and `condition`, or the checkpoint."
    check_tensors(path, found, forms, expected, remedy)
    # A copy: weights of a checkpoint may share memory, which a file of ours does not.
    single = {name: tensor.detach().to(torch.float32, copy=True) for name, tensor in found.items()}
    check_finite(path, single, f"{DIVERGED} Values past float32 count as infinite.")
    return single, taken


def _content(path: Path) -> Any:
    """What a file holds, or several safetensors files together."""
    files = checkpoint_files(path)
    if files[-1].suffix == ".safetensors":
        shards = [read_tensors(file)[0] for file in files if file.suffix == ".safetensors"]
        names = Counter(name for shard in shards for name in shard)
        if twice := sorted(name for name, count in names.items() if count > 1):
            raise UserError(
                path,
                found=f"weights in several files: {some(twice)}",
                expected="each weight once",
                remedy="Copy the checkpoint anew, or name another file.",
            )
        return {name: tensor for shard in shards for name, tensor in shard.items()}
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as e:  # bytes that are no checkpoint make the reader raise anything
        raise _not_plain(path, e) from e


def _not_plain(path: Path, error: Exception) -> UserError:
    """What to do about a file of which something would have to be executed to read it."""
    said, expected = str(error) or type(error).__name__, "a state dict, as torch.save writes it"
    if "argparse.Namespace" not in said:
        found = f"no plain weights ({said.splitlines()[0]})"
        return UserError(path, found=found, expected=expected, remedy=ALONE)
    return UserError(
        path,
        found="no plain weights, but an argparse.Namespace beside them",
        expected=expected,
        remedy=STRIPPED.format(path, path.with_name(f"{path.stem}_weights.pt")),
    )


def _choices(path: Path, content: Any, frozen: Collection[str]) -> dict[str, Mapping[Any, Any]]:
    """The state dicts, or what holds them, that lie in a checkpoint by name."""
    if not isinstance(content, Mapping):
        return {}
    if any(str(name).startswith(f"{SHADOWS}.") for name in content):
        return _averages(path, content, frozen)
    return {nest: content[nest] for nest in NESTS if isinstance(content.get(nest), Mapping)}


def _averages(
    path: Path, content: Mapping[Any, Any], frozen: Collection[str]
) -> dict[str, Mapping[Any, Any]]:
    """What flow_matching's EMA holds: a model, and the averages of its parameters, unnamed.

    They are in the order of the model's tensors, of which those that are not trained have none.
    """
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    model = {
        name.removeprefix("model."): tensor
        for name, tensor in tensors.items()
        if name.startswith("model.")
    }
    count = sum(name.startswith(f"{SHADOWS}.") for name in tensors)
    averages = [tensors.get(f"{SHADOWS}.{index}") for index in range(count)]
    trained = [name for name in model if WRAPPERS.sub("", name) not in frozen]
    shapes = [None if average is None else average.shape for average in averages]
    if shapes != [model[name].shape for name in trained]:
        raise UserError(
            path,
            found=f"{count} averages, unnamed, for {len(trained)} weights of other shapes",
            expected="an average for each weight that is trained, in their order",
            remedy="Save the averages under the names of their weights and name that file.",
        )
    return {SHADOWS: model | dict(zip(trained, averages, strict=True)), "model": model}
