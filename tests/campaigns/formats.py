"""What can be wrong with tensors: in files of ours, and in published checkpoints."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from campaigns.damage import DEEP, MAY, MUST, NASTY, Damage, changed
from flowquant.runtime.tensors import read_tensors, write_tensors

Tensors = dict[str, Tensor]


def _raw(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def _write_raw(path: Path, head: bytes, data: bytes, size: int | None = None) -> None:
    path.unlink()
    length = len(head) if size is None else size
    path.write_bytes(length.to_bytes(8, "little") + head + data)


def header(path: Path, rng: random.Random) -> bool:
    """A header that says what is not so."""
    head, data = _raw(path)
    name = rng.choice([name for name in head if name != "__metadata__"])
    entry, size = head[name], None
    match rng.randrange(8):
        case 0:
            entry["shape"] = [2**40, 2**20]
        case 1:
            entry["data_offsets"] = [0, 2**62]
        case 2:
            entry["dtype"] = rng.choice(["F64", "BOOL", "X", "", "I64"])
        case 3:
            size = rng.choice([2**63, 2**40, 0, 1])
        case 4:
            head["__metadata__"]["flowquant"] = rng.choice(["{", "[]", "3", "null", "[" * DEEP])
        case 5:
            head["__metadata__"] = rng.choice([{}, {"flowquant": "{}"}, None])
        case 6:
            head[name] = rng.choice(NASTY)
        case _:
            entry["data_offsets"] = entry["data_offsets"][::-1]
    _write_raw(path, json.dumps(head).encode(), data, size)
    return MUST


def _pick(tensors: Tensors, rng: random.Random) -> str:
    return rng.choice(sorted(tensors))


def tensor_lost(tensors: Tensors, rng: random.Random) -> bool:
    del tensors[_pick(tensors, rng)]
    return MUST


def tensor_added(tensors: Tensors, rng: random.Random) -> bool:
    tensors["another"] = torch.zeros(3)
    return MAY


def all_lost(tensors: Tensors, rng: random.Random) -> bool:
    tensors.clear()
    return MUST


def type_changed(tensors: Tensors, rng: random.Random) -> bool:
    name = _pick(tensors, rng)
    kinds = (torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64)
    kind = rng.choice([kind for kind in kinds if kind != tensors[name].dtype])
    tensors[name] = tensors[name].to(kind)
    return MUST


def shape_changed(tensors: Tensors, rng: random.Random) -> bool:
    name = _pick(tensors, rng)
    tensor = tensors[name]
    shapes = [tensor[None]]
    if tensor.dim():
        shapes += [tensor.reshape(-1), tensor[:0], tensor[:1], torch.cat([tensor, tensor])]
        shapes += [tensor.transpose(0, -1)]
    tensors[name] = rng.choice([t for t in shapes if t.shape != tensor.shape]).clone()
    return MUST


def no_numbers(tensors: Tensors, rng: random.Random) -> bool:
    floats = [name for name in sorted(tensors) if tensors[name].is_floating_point()]
    if not floats:
        return no_such_numbers(tensors, rng)
    name = rng.choice(floats)
    tensors[name] = tensors[name].clone()
    flat = tensors[name].view(-1)
    if len(flat):
        flat[rng.randrange(len(flat))] = rng.choice([torch.nan, torch.inf, -torch.inf])
    return MUST


def no_such_numbers(tensors: Tensors, rng: random.Random) -> bool:
    """Labels, indices and sizes beyond what they count; any pixel is one."""
    wide = (torch.int64, torch.int32, torch.int16)
    whole = [name for name in sorted(tensors) if tensors[name].dtype in wide]
    if not whole:
        return tensor_lost(tensors, rng)
    name = rng.choice(whole)
    tensors[name] = tensors[name] + rng.choice([-1000, 1000])
    # How many batches a batch norm has seen is asked for by nothing that is trained already.
    return MAY if name.endswith("num_batches_tracked") else MUST


def vast_numbers(tensors: Tensors, rng: random.Random) -> bool:
    name = _pick(tensors, rng)
    if tensors[name].is_floating_point():
        tensors[name] = tensors[name] * 0 + torch.finfo(tensors[name].dtype).max
    return MAY


CHANGES: Mapping[str, Callable[[Tensors, random.Random], bool]] = {
    f.__name__: f
    for f in (
        *(tensor_lost, tensor_added, all_lost, type_changed, shape_changed),
        *(no_numbers, no_such_numbers, vast_numbers),
    )
}


def _signed(change: Callable[[Tensors, random.Random], bool]) -> Damage:
    """A change under which the file's digest is right."""

    def damage(path: Path, rng: random.Random) -> bool:
        tensors, metadata = read_tensors(path)
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        must = change(tensors, rng)
        path.unlink()
        write_tensors(path, tensors, metadata)
        return must

    return damage


def metadata_lost(path: Path, rng: random.Random) -> bool:
    tensors, metadata = read_tensors(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    path.unlink()
    write_tensors(path, tensors, changed(metadata, rng, drop=True))
    return MAY


def metadata_changed(path: Path, rng: random.Random) -> bool:
    tensors, metadata = read_tensors(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    new = changed(metadata, rng, drop=False)
    path.unlink()
    write_tensors(path, tensors, new)
    return MAY


TENSORS: Mapping[str, Damage] = {
    "header": header,
    "metadata_lost": metadata_lost,
    "metadata_changed": metadata_changed,
} | {name: _signed(change) for name, change in CHANGES.items()}


class Runs:
    """A pickle that runs a command where it is read."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch PWNED",)


def _checkpoint(change: Callable[[dict[Any, Any], str], Any], must: bool) -> Damage:
    def damage(path: Path, rng: random.Random) -> bool:
        state = torch.load(path, weights_only=True)
        floats = [k for k in sorted(state) if state[k].is_floating_point() and state[k].dim() > 1]
        replaced = change(state, rng.choice(floats))
        path.unlink()
        torch.save(state if replaced is None else replaced, path)
        return must

    return damage


def _set(function: Callable[[Tensor], Any]) -> Callable[[dict[Any, Any], str], None]:
    def change(state: dict[Any, Any], name: str) -> None:
        state[name] = function(state[name])

    return change


def _endless(state: dict[Any, Any], name: str) -> None:
    state["self"] = state


def _twice(state: dict[Any, Any], name: str) -> None:
    state[f"module.{name}"] = state[name] + 1


def _quantized(tensor: Tensor) -> Tensor:
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8)


CHECKPOINTS: Mapping[str, Damage] = {
    "integers": _checkpoint(_set(lambda t: t.to(torch.int32)), MUST),
    "truths": _checkpoint(_set(lambda t: t > 0), MUST),
    "complex": _checkpoint(_set(lambda t: t + 1j), MUST),
    "sparse": _checkpoint(_set(lambda t: t.to_sparse()), MUST),
    "quantized": _checkpoint(_set(_quantized), MUST),
    "past_float32": _checkpoint(_set(lambda t: t.double() * 0 + 1e300), MUST),
    "not_numbers": _checkpoint(_set(lambda t: t * torch.nan), MUST),
    "text": _checkpoint(_set(lambda t: "x"), MUST),
    "none": _checkpoint(_set(lambda t: None), MUST),
    "nested": _checkpoint(lambda s, n: {"a": {"b": {"c": s}}}, MAY),
    "a_list": _checkpoint(lambda s, n: list(s.values()), MUST),
    "a_tensor": _checkpoint(lambda s, n: s[n], MUST),
    "numbered": _checkpoint(lambda s, n: dict(enumerate(s.values())), MUST),
    "twice": _checkpoint(_twice, MUST),
    "itself": _checkpoint(_endless, MAY),
    "a_program": _checkpoint(lambda s, n: Runs(), MUST),
    "a_program_inside": _checkpoint(lambda s, n: s | {"x": Runs()}, MUST),
    "a_vast_view": _checkpoint(_set(lambda t: torch.zeros(1).expand(10**10)), MUST),
    "on_no_device": _checkpoint(_set(lambda t: t.to("meta")), MUST),
    "another_shape": _checkpoint(_set(lambda t: t[None]), MUST),
    "a_transpose": _checkpoint(_set(lambda t: t.T.contiguous()[:1]), MUST),
    "one_lost": _checkpoint(lambda s, n: {k: v for k, v in s.items() if k != n}, MUST),
}
