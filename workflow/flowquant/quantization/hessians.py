"""The file of points of a flow and of the inputs that a network's layers get there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from flowquant.config.model import ConditionConfig, FlowConfig
from flowquant.models.gram import Gram
from flowquant.models.path import velocity
from flowquant.quantization.inputs import Inputs, Product
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.header import Kind
from flowquant.runtime.tensors import check_finite, check_tensors, read_file, write_tensors


@dataclass(frozen=True)
class HessiansMetadata:
    """What a file of Hessians must say: whose they are."""

    source_sha256: str
    points: Annotated[int, Field(ge=1)]


HESSIANS = Kind("file of Hessians", "`hessians`", HessiansMetadata)
# Of the points, and of each layer.
POINTS = {"points.x": "float32 [P, C, S, S]", "points.t": "float32 [P]"}
CONDITION = {"points.condition": "int64 [P] or uint8 [P, A]"}
PARTS = {"hessian": "float32 [{n}, {n}]", "mean": "float32 [{n}]"}
# Points at a time.
BATCH = 256


@dataclass(frozen=True)
class Moments:
    """Of the inputs x of a layer's rows: E[x·xᵀ], float32 [n, n], and E[x], float32 [n]."""

    hessian: Tensor
    mean: Tensor

    @property
    def centred(self) -> Tensor:
        """E[x·xᵀ] of the inputs less their mean, which is what a bias cannot make up for."""
        return self.hessian - torch.outer(self.mean, self.mean)

    def to(self, device: torch.device) -> Moments:
        """The same on a device."""
        return Moments(self.hessian.to(device), self.mean.to(device))


@dataclass(frozen=True)
class Hessians:
    """Points (x_t, t, y) of a flow and what a network's layers get there.

    Args:
        points: States float32 [P, C, H, W], times [P], conditions [P] or [P, A].
        layers: The moments of each weight's inputs by the weight's name.
    """

    points: tuple[Tensor, Tensor, Tensor]
    layers: Mapping[str, Moments]

    def of(self, where: object, name: str) -> Moments:
        """The moments of a weight's inputs.

        Raises:
            UserError: if no input of it was seen.
        """
        if name not in self.layers:
            raise never_reached(where, [name])
        return self.layers[name]


def never_reached(where: object, names: list[str]) -> UserError:
    """What is wrong with weights of which no products were seen."""
    return UserError(
        where,
        found=f"weights that nothing is multiplied by at any point: {some(names)}",
        expected="every weight that is quantized at work in the network, a row for each output",
        remedy="List them under the method's `keep`, or leave out `compensate`.",
    )


class _Sums:
    """Sums over the inputs of a layer: of x·xᵀ, of x, and how many."""

    def __init__(self, n: int, device: torch.device) -> None:
        self.squares = Gram(n, device)
        self.sum = torch.zeros(n, device=device)
        self.count = 0

    def add(self, rows: Tensor) -> None:
        self.squares.add(rows)
        self.sum += rows.sum(0)
        self.count += len(rows)

    @property
    def moments(self) -> Moments:
        return Moments(self.squares.total / self.count, self.sum / self.count)


@torch.no_grad()
def observed(
    where: object,
    network: nn.Module,
    flow: FlowConfig,
    points: tuple[Tensor, Tensor, Tensor],
    names: set[str],
) -> Hessians:
    """What the layers of a network get at some points: memory does not grow with their number.

    Args:
        where: The model's file, for errors.
        network: The full-precision network, float32.
        flow: Its flow.
        points: States, times and conditions, as `Hessians` has them, on the network's device.
        names: Weights whose inputs are wanted, a row for each output; what is never used is absent.

    Raises:
        UserError: if a layer gets fewer inputs than each has values, which names the number of
            points that suffices, or some that are not finite.
    """
    weights = {name: p for name, p in network.named_parameters() if name in names}
    sums: dict[str, _Sums] = {}

    def seen(product: Product) -> None:
        for rows in product.rows(product.input):
            if product.weight not in sums:
                sums[product.weight] = _Sums(rows.shape[1], rows.device)
            sums[product.weight].add(rows)

    count, done = len(points[0]), 0
    with Inputs(weights, seen):
        for x, t, condition in zip(*(part.split(BATCH) for part in points), strict=True):
            velocity(network, flow, x, t, condition)
            done += len(x)
            _refuse_few(where, sums, done, count)
    layers = {name: part.moments for name, part in sums.items()}
    bad = [name for name, part in layers.items() if not bool(part.hessian.isfinite().all())]
    if bad:
        raise UserError(
            where,
            found=f"NaN or infinite inputs of {some(bad)}",
            expected="finite ones at every point",
            remedy="The training that made the weights diverged: use others.",
        )
    if not layers:
        raise never_reached(where, sorted(names))
    return Hessians(points, layers)


def _refuse_few(where: object, sums: Mapping[str, _Sums], done: int, count: int) -> None:
    """Refuse ``count`` points if a layer will have got fewer inputs than each has values."""
    needed = {n: -(-len(part.sum) * done // part.count) for n, part in sums.items()}
    name = max(needed, key=lambda n: needed[n], default="")
    if name and needed[name] > count:
        raise UserError(
            where,
            found=f"{count} points, of which {name} gets {sums[name].count * count // done:,} "
            f"inputs of {len(sums[name].sum):,} values",
            expected=f"at least {needed[name]:,} points, or its Hessian is singular",
            remedy="Raise `compensate.points`.",
        )


def write_hessians(path: Path, hessians: Hessians, provenance: Mapping[str, Any]) -> None:
    """Write points and moments; ``provenance`` has `HessiansMetadata`'s keys."""
    tensors = dict(zip([*POINTS, *CONDITION], hessians.points, strict=True))
    for name, moments in hessians.layers.items():
        tensors |= {f"{name}.hessian": moments.hessian, f"{name}.mean": moments.mean}
    write_tensors(path, tensors, provenance, HESSIANS)


def read_hessians(
    path: Path, source_sha256: str, weights: Mapping[str, Tensor], condition: ConditionConfig
) -> Hessians:
    """Read what `write_hessians` wrote, memory-mapped.

    Args:
        path: The file.
        source_sha256: SHA-256 of the file of the model whose they must be.
        weights: Its weights.
        condition: What its points are conditioned on.

    Raises:
        UserError: if the file is unreadable, is none, or is of another model.
    """
    content = read_file(path, HESSIANS)
    tensors = content.tensors
    if content.described.source_sha256 != source_sha256:
        raise UserError(
            path,
            found="Hessians of another model",
            expected="those of the model that is quantized",
            remedy="Delete the file and run the workflow again.",
        )
    names = [n.removesuffix(".mean") for n in tensors if n.endswith(".mean")]
    sizes = {n: weights[n][0].numel() for n in names if n in weights}
    forms = POINTS | CONDITION
    for name, size in sizes.items():
        forms |= {f"{name}.{part}": form.format(n=size) for part, form in PARTS.items()}
    check_tensors(path, tensors, forms, HESSIANS.described, HESSIANS.remedy)
    check_finite(path, tensors, HESSIANS.remedy)
    points = tuple(tensors[name] for name in [*POINTS, *CONDITION])
    _check_condition(path, points[-1], condition)
    layers = {n: Moments(tensors[f"{n}.hessian"], tensors[f"{n}.mean"]) for n in names}
    return Hessians(points, layers)  # type: ignore[arg-type]


def _check_condition(path: Path, found: Tensor, condition: ConditionConfig) -> None:
    """Refuse classes [P] or attributes [P, A] that the model does not know."""
    attributes = condition.kind == "attributes"
    most = 1 if attributes else condition.count - 1
    shape = (condition.count,) if attributes else ()
    if found.shape[1:] != shape or int(found.min()) < 0 or int(found.max()) > most:
        raise UserError(
            path,
            found=f"conditions of shape {tuple(found.shape)} "
            f"from {int(found.min())} to {int(found.max())}",
            expected=f"{condition.count} {condition.kind}, from 0 to {most}",
            remedy=HESSIANS.remedy,
        )
