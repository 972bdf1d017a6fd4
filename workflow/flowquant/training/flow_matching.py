"""A training run: steps, epochs, the best weights, and all it takes to go on after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from flowquant.config.model import ModelConfig
from flowquant.config.training import TrainingConfig
from flowquant.data.dataset import Part, Split
from flowquant.data.pixels import to_unit
from flowquant.models.model import build_network
from flowquant.models.path import matching_loss
from flowquant.runtime import random
from flowquant.runtime.cuda_graph import capture
from flowquant.runtime.device import compute_dtype
from flowquant.runtime.errors import UserError
from flowquant.training.distributed import Draws, Group


@dataclass
class Progress:
    """Where training stands, besides the weights and the optimiser's state."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    halvings: int = 0
    seconds: float = 0.0


def learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int, halvings: int) -> float:
    """The learning rate at ``step``: linear warm-up, then halvings or a cosine to 0."""
    warmup = config.warmup_epochs * steps_per_epoch
    rate = config.learning_rate * 0.5**halvings
    if step < warmup:
        return rate * (step + 1) / warmup
    if config.schedule == "cosine":
        total = config.epochs * steps_per_epoch
        rate *= 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
    return rate


def _trained(network: nn.Module) -> list[Tensor]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _as_one(weights: list[Tensor]) -> Tensor:
    """A vector of which the weights become views, in their order."""
    if not weights:
        return torch.empty(0)
    vector = torch.cat([weight.detach().flatten() for weight in weights])
    for weight, part in zip(weights, vector.split([w.numel() for w in weights]), strict=True):
        weight.data = part.view_as(weight)
    return vector


def _gradient(weight: Tensor) -> Tensor:
    """Of a weight that the loss does not depend on: zeros."""
    return (torch.zeros_like(weight) if weight.grad is None else weight.grad).flatten()


def _half_copies(network: nn.Module, device: torch.device) -> tuple[nn.Module, nn.Module]:
    """Copies in bfloat16 to train and to validate with; the optimiser works on float32 weights."""
    from flowquant.models.fused import fuse, fuse_for_training

    copies = deepcopy(network), deepcopy(network).requires_grad_(False).eval()
    for copy in copies:
        copy.cast(torch.bfloat16)  # type: ignore[operator]
    fuse_for_training(copies[0], device)
    fuse(copies[1])
    return copies


def _not_finite(where: str, loss: float) -> UserError:
    return UserError(
        where,
        found=f"a loss of {loss}",
        expected="a finite loss",
        remedy="Lower `training.learning_rate` or lengthen `training.warmup_epochs`.",
    )


class Training:
    """A training run that can be stopped after any step and gone on with.

    Every step reseeds the generators by (seed, step), so times, noise and dropout need no state of
    their own. On a GPU a step, from uint8 images to updated weights, is captured as one CUDA graph.

    A group's processes each compute on their share of a batch and then make the same update, of the
    whole batch's mean gradient: they call the same methods, and agree on all but dropout.
    """

    def __init__(
        self,
        model: ModelConfig,
        config: TrainingConfig,
        seed: int,
        device: torch.device,
        group: Group | None = None,
    ) -> None:
        torch.manual_seed(random.key(seed, "initial weights"))
        self.model, self.config, self.seed, self.device = model, config, seed, device
        self._group = group or Group()
        self._draws, self._draws_alone = Draws(self._group, device), Draws(Group(), device)
        self.network = build_network(model).to(device)
        self.average = None if config.ema is None else deepcopy(self.network).requires_grad_(False)
        self._working, self._judged = self.network, self.candidate
        if compute_dtype(device, config.precision) == torch.bfloat16:
            self._working, self._judged = _half_copies(self.network, device)
        self._flatten()
        on_gpu = device.type == "cuda"
        rate = torch.tensor(config.learning_rate, device=device) if on_gpu else config.learning_rate
        self.optimizer = torch.optim.AdamW(
            [self._weights],
            lr=rate,
            weight_decay=config.weight_decay,
            fused=on_gpu,
            capturable=on_gpu,
        )
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.curve: list[dict[str, float]] = []
        self._images = self._labels = torch.empty(0)
        self._losses = torch.empty(0)
        self._graph: torch.cuda.CUDAGraph | None = None

    def _flatten(self) -> None:
        """Make all trained weights views of one vector, so that each update is one operation.

        In bfloat16 the working copy has a vector of its own, but shares the weights that stay
        float32, which come first.
        """
        working = _trained(self._working)
        halved = [weight.dtype == torch.bfloat16 for weight in working]
        order = sorted(range(len(working)), key=lambda index: halved[index])
        self._ordered = [working[index] for index in order]
        names = [name for name, weight in self.network.named_parameters() if weight.requires_grad]
        self._weights = _as_one([_trained(self.network)[index] for index in order])
        # The loss travels with the gradient from device to device.
        self._reduced = torch.zeros(len(self._weights) + 1, device=self.device)
        self._loss = self._reduced[-1]
        self._weights.requires_grad_().grad = self._reduced[:-1]
        self._halves = _as_one([working[index] for index in order if halved[index]])
        self._shared = len(self._weights) - len(self._halves)
        sizes = [weight.numel() for weight in self._ordered]
        whole = self._reduced[:-1].split([self._shared, len(self._halves)])
        first = len(sizes) - sum(halved)
        typed = self._ordered[:first], self._ordered[first:]
        self._gathered = [pair for pair in zip(whole, typed, strict=True) if pair[1]]
        parts = self._weights.detach().split(sizes)
        for weight, part in zip(self._ordered, parts, strict=True):
            if weight.dtype == torch.float32:
                weight.data = part.view_as(weight)
        self._means = torch.empty(0)
        if self.average is not None:
            means = dict(self.average.named_parameters())
            self._means = _as_one([means[names[index]] for index in order])

    @property
    def candidate(self) -> nn.Module:
        """The network whose weights are validated and kept."""
        return self.network if self.average is None else self.average

    @property
    def finished(self) -> bool:
        """All epochs done, or none of the last ``stop_after`` was better than the best."""
        p, config = self.progress, self.config
        return p.epoch >= config.epochs or p.epoch - p.best_epoch >= config.stop_after

    def loss(
        self, network: nn.Module, images: Tensor, condition: Tensor, draws: Draws | None = None
    ) -> Tensor:
        """The flow-matching loss of uint8 images [B, C, H, W], with fresh times and noise."""
        images, draws = to_unit(images), draws or self._draws_alone
        t = draws.uniform(len(images))
        noise = draws.normal(images.shape) * self.model.flow.sigma
        keep = None
        if network.training and self.config.condition_dropout > 0:
            keep = (draws.uniform(len(images)) >= self.config.condition_dropout).float()
        return matching_loss(network, self.model.flow, images, noise, t, condition, keep)

    def step(self, split: Split, rows: Tensor, steps_per_epoch: int) -> Tensor:
        """One optimiser step on a batch; its loss, a scalar on the device that is overwritten."""
        p = self.progress
        step = p.epoch * steps_per_epoch + p.step
        rate = learning_rate(self.config, step, steps_per_epoch, p.halvings)
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        where = split.images.device
        rows = self._group.share(rows).to(where)
        images, labels = split.images[rows], split.labels[rows]
        if self._images.shape != images.shape:
            self._images, self._labels = images.to(self.device), labels.to(self.device)
            if self.device.type == "cuda":
                self._graph = capture(self._update, self._changed, self._draws.serve)
        else:
            self._images.copy_(images)
            self._labels.copy_(labels)
        self._draws.start(self.seed, "step", step)
        if self._graph is None:
            self._update()
        else:
            self._graph.replay()
        p.step += 1
        return self._loss

    def _update(self) -> None:
        """Forward, backward, mean, clip, AdamW and average, on the images and labels in place."""
        loss = self.loss(self._working, self._images, self._labels, self._draws)
        self._working.zero_grad(set_to_none=True)
        loss.backward()
        for part, weights in self._gathered:
            # Together: weight by weight, copying took 6 to 9 % of a step on an H200.
            part.copy_(torch.cat([_gradient(weight) for weight in weights]))
        self._loss.copy_(loss.detach())
        self._group.mean_(self._reduced)
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self._weights, self.config.clip)
        self.optimizer.step()
        if self.average is not None and self.config.ema is not None:
            self._means.lerp_(self._weights.detach(), 1 - self.config.ema)
        self._synchronise()

    @torch.no_grad()
    def _synchronise(self) -> None:
        self._halves.copy_(self._weights[self._shared :])

    def _changed(self) -> Iterator[Tensor]:
        yield from (self._weights, self._halves, self._means)
        yield from self.optimizer.state[self._weights].values()

    def release(self) -> None:
        """Let go of the captured step: NCCL ends only after the graphs that hold its operations."""
        self._graph = None

    def train_epoch(
        self, part: Part, bar: tqdm[Any], after_step: Callable[[], None] = lambda: None
    ) -> float:
        """One pass over a part in a fresh order, whole batches only; returns the mean loss.

        Goes on after the step that `progress` names. ``after_step`` is called after each step.
        """
        p, config = self.progress, self.config
        steps = len(part) // config.batch
        shuffle = random.generator(self.seed, "shuffle", p.epoch)
        order = part.rows[torch.randperm(len(part), generator=shuffle)]
        batches = order[: steps * config.batch].to(part.split.images.device).view(steps, -1)
        if len(self._losses) != steps:
            self._losses = torch.zeros(steps, device=self.device)
        losses = self._losses
        self._working.train()
        shown = time.monotonic()
        for index in range(p.step, steps):
            losses[index] = self.step(part.split, batches[index], steps)
            bar.update()
            if not bar.disable and time.monotonic() - shown > bar.mininterval:
                # Reading the loss waits for the GPU; once a second does no harm.
                bar.set_postfix(
                    epoch=p.epoch + 1, loss=f"{losses[index].item():.4f}", refresh=False
                )
                shown = time.monotonic()
            after_step()
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            raise _not_finite(
                f"training step {p.epoch * steps + int(bad[0])}", losses[bad[0]].item()
            )
        return losses.mean().item()

    @torch.no_grad()
    def validate(self, part: Part) -> float:
        """The candidate's mean loss, with the same times and noise every epoch.

        The processes of a group take turns at the batches.
        """
        network = self._judged.eval()
        if network is not self.candidate:
            torch._foreach_copy_(list(network.parameters()), list(self.candidate.parameters()))
        total = torch.zeros((), device=self.device)
        split = part.split
        for index, rows in enumerate(part.rows.to(split.images.device).split(512)):
            if index % self._group.size != self._group.rank:
                continue
            self._draws_alone.start(self.seed, "validation", index)
            images, labels = split.images[rows], split.labels[rows]
            loss = self.loss(network, images.to(self.device), labels.to(self.device))
            total += loss * len(rows)
        self._group.mean_(total)
        return total.item() * self._group.size / len(part)

    def run_epoch(
        self,
        fit: Part,
        held_out: Part,
        bar: tqdm[Any],
        after_step: Callable[[], None] = lambda: None,
    ) -> None:
        """Train and validate once, and keep the weights if they are the best so far."""
        started, p = time.monotonic(), self.progress
        train_loss = self.train_epoch(fit, bar, after_step)
        validation_loss = self.validate(held_out)
        if not math.isfinite(validation_loss):
            raise _not_finite(f"validation after epoch {p.epoch + 1}", validation_loss)
        p.epoch, p.step = p.epoch + 1, 0
        p.seconds += time.monotonic() - started
        self.curve.append(
            {
                "epoch": p.epoch,
                "train_loss": train_loss,
                "validation_loss": validation_loss,
                "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
                "seconds": round(p.seconds, 3),
            }
        )
        if validation_loss < p.best_loss:
            p.best_loss, p.best_epoch = validation_loss, p.epoch
            self.best = {k: v.detach().clone() for k, v in self.candidate.state_dict().items()}
        elif self.config.schedule == "plateau" and not (
            (p.epoch - p.best_epoch) % self.config.halve_after
        ):
            p.halvings += 1

    def state(self) -> dict[str, Any]:
        """All that `load_state` needs to go on; tensors, numbers and strings only."""
        return {
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
            "losses": self._losses,
            "best": self.best,
            "curve": self.curve,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken; before the first step of this object."""
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._synchronise()
        self.progress = Progress(**state["progress"])
        self._losses = state["losses"].to(self.device)
        self.best, self.curve = state["best"], state["curve"]
