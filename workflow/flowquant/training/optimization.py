"""What training and refinement share: learning rates, steps, the curve, and resuming."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from flowquant.runtime.cuda_graph import capture_if_possible
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import write_text
from flowquant.training.distributed import Draws
from flowquant.training.resume import Keeper, load_state


def one_cycle(peak: float, step: int, steps: int) -> float:
    """Learning rate at ``step``: a cosine up from peak/25 for 30 % of the steps, then down to 0."""
    rise = max(1.0, 0.3 * steps)
    if step < rise:
        return peak * (1 / 25 + (1 - 1 / 25) * 0.5 * (1 - math.cos(math.pi * step / rise)))
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))


def as_one(weights: Sequence[Tensor], alike: Sequence[Tensor] | None = None) -> Tensor:
    """A vector of which the weights become views, in their order.

    Each takes the order in memory of its own, or of its counterpart among those ``alike``.
    """
    if not weights:
        return torch.empty(0)
    likes = alike or weights
    orders = [like.dim_order() for like in likes]
    laid = [w.detach().permute(order) for w, order in zip(weights, orders, strict=True)]
    vector = torch.cat([weight.flatten() for weight in laid])
    for weight, view in zip(weights, views(vector, likes), strict=True):
        weight.data = view
    return vector


def views(vector: Tensor, likes: Sequence[Tensor]) -> list[Tensor]:
    """A vector as tensors of the shapes of those given, and of their orders in memory."""
    found = []
    parts = vector.split([like.numel() for like in likes])
    for like, part in zip(likes, parts, strict=True):
        order = like.dim_order()
        back = sorted(range(len(order)), key=order.__getitem__)
        found.append(part.view([like.shape[axis] for axis in order]).permute(back))
    return found


def use_bfloat16(
    trained: nn.Module, frozen: nn.Module, device: torch.device
) -> dict[Tensor, Tensor]:
    """Let two networks compute in bfloat16, their encoder layers fused; one gets no gradients.

    Returns where the other's may be written, as `fuse_for_training` has it.
    """
    from flowquant.models.fused import fuse, fuse_for_training

    for network in (trained, frozen):
        network.cast(torch.bfloat16)  # type: ignore[operator]
    fuse(frozen)
    return fuse_for_training(trained, device)


class Optimization(ABC):
    """Steps of AdamW that can stop after any of them and resume, to the same weights in the end.

    Every step reseeds the generators by (seed, step), so what is drawn needs no state of its own.
    On a GPU a step is captured as one CUDA graph, where the network allows that.

    Args:
        draws: Where steps compute and draw from.
        groups: What to optimise: tensors that share a learning rate, by rate.
        weight_decay: Decoupled from the gradient (Loshchilov & Hutter, arXiv 1711.05101).
        carried: What steps change besides, each in its place.
    """

    remedy: ClassVar[str]
    """What to do about a loss that is not finite."""

    def __init__(
        self, draws: Draws, groups: list[list[Tensor]], weight_decay: float, carried: list[Tensor]
    ) -> None:
        self.device, self._draws, self._carried = draws.device, draws, carried
        self._on_gpu = self.device.type == "cuda"
        # Rates are tensors where a captured step must see them change.
        rates = [torch.zeros((), device=self.device) if self._on_gpu else 0.0 for _ in groups]
        self.optimizer = torch.optim.AdamW(
            [{"params": group, "lr": rate} for group, rate in zip(groups, rates, strict=True)],
            weight_decay=weight_decay,
            fused=self._on_gpu,
            capturable=self._on_gpu,
        )
        self.curve: list[dict[str, float]] = []
        self._graph: torch.cuda.CUDAGraph | None = None
        # Whether steps are launched one by one, not replayed.
        self._launched = not self._on_gpu

    @abstractmethod
    def _update(self) -> None:
        """One step's work, from tensors that stay in their places."""

    def _changed(self) -> Iterator[Tensor]:
        yield from self._carried
        for group in self.optimizer.param_groups:
            for tensor in group["params"]:
                yield tensor
                yield from self.optimizer.state[tensor].values()

    def _advance(self, rates: Sequence[float], seed: int, purpose: str, index: int) -> None:
        """Update once, at each group's rate, with the random numbers of (seed, purpose, index)."""
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if self._on_gpu:
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        if self._graph is None and not self._launched:
            self._graph = capture_if_possible(self._update, self._changed, self._draws.serve)
            self._launched = self._graph is None
        self._draws.start(seed, purpose, index)
        if self._graph is None:
            self._update()
        else:
            self._graph.replay()

    def _check(self, place: str, loss: float) -> None:
        if not math.isfinite(loss):
            raise UserError(
                place, found=f"a loss of {loss}", expected="a finite loss", remedy=self.remedy
            )

    def _record(self, seconds: float, **row: float) -> None:
        rate = float(self.optimizer.param_groups[0]["lr"])
        self.curve.append({**row, "learning_rate": rate, "seconds": round(seconds, 3)})

    def state(self) -> dict[str, Any]:
        """All that `load_state` needs to resume: tensors, numbers and strings only."""
        return {"optimizer": self.optimizer.state_dict(), "curve": self.curve}

    def load_state(self, state: dict[str, Any]) -> None:
        """Return to where ``state`` was taken; before the first step of this object."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.curve = state["curve"]

    def resume(self, checkpoint: Path, name: str) -> None:
        """Return to where the checkpoint was taken, if there is one of the run ``name``."""
        if (state := load_state(checkpoint, name, self.device)) is not None:
            self.load_state(state)

    @contextmanager
    def under_way(
        self, done: int, total: int, title: str, checkpoint: Path, name: str, seconds: float
    ) -> Iterator[tuple[tqdm[Any], Keeper]]:
        """A progress bar from ``done`` steps on, and what keeps the checkpoint of the run."""
        if done:
            tqdm.write(f"resuming after step {done}, from {checkpoint}")
        with (
            tqdm(total=total, initial=done, unit="step", mininterval=1.0, desc=title) as bar,
            Keeper(checkpoint, name, self.state, seconds) as keep,
        ):
            yield bar, keep

    def write_curve(self, path: Path) -> None:
        """Write the curve as JSON lines."""
        write_text(path, "".join(json.dumps(row) + "\n" for row in self.curve))
