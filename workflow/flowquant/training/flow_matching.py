"""Training a velocity network by flow matching: steps, epochs and the best weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
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
from flowquant.runtime.device import compute_dtype
from flowquant.training.distributed import Draws, Group
from flowquant.training.gradient import Gradient
from flowquant.training.optimization import Optimization, as_one, use_bfloat16


def learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int, halvings: int) -> float:
    """The learning rate at ``step``: linear warm-up, then as the schedule has it."""
    warmup = config.warmup_epochs * steps_per_epoch
    rate = config.learning_rate * 0.5**halvings
    if step < warmup:
        return rate * (step + 1) / warmup
    done = (step - warmup) / max(1, config.epochs * steps_per_epoch - warmup)
    if config.schedule == "cosine":
        return rate * 0.5 * (1 + math.cos(math.pi * done))
    return rate * (1 - done) if config.schedule == "linear" else rate


def average_share(decay: float, step: int) -> float:
    """The share of a moving average that ``step`` renews: more of it at first."""
    return 1 - min(decay, (1 + step) / (10 + step))


@dataclass
class Progress:
    """Where training stands, besides the weights and the optimiser's state."""

    epoch: int = 0
    step: int = 0
    best_epoch: int = 0
    best_loss: float = math.inf
    halvings: int = 0
    seconds: float = 0.0


class Training(Optimization):
    """A training run, from uint8 images to the weights with the best validation loss.

    A group's processes each compute on their share of a batch and then make the same update, of the
    whole batch's mean gradient: they call the same methods, and agree on all but dropout.
    """

    remedy = "Lower `training.learning_rate` or lengthen `training.warmup_epochs`."

    def __init__(
        self,
        model: ModelConfig,
        config: TrainingConfig,
        seed: int,
        device: torch.device,
        group: Group | None = None,
    ) -> None:
        torch.manual_seed(random.key(seed, "initial weights"))
        self.model, self.config, self.seed = model, config, seed
        self._group, self._draws_alone = group or Group(), Draws(Group(), device)
        self.network = build_network(model).to(device)
        self.average = None if config.ema is None else deepcopy(self.network).requires_grad_(False)
        self._working, self._judged = self.network, self.candidate
        places: dict[Tensor, Tensor] = {}
        if compute_dtype(device, config.precision) == torch.bfloat16:
            self._working = deepcopy(self.network)
            self._judged = deepcopy(self.network).requires_grad_(False).eval()
            places = use_bfloat16(self._working, self._judged, device)
        self._flatten(places)
        # A tensor, since a captured step must see it change.
        self._share = torch.zeros((), device=device)
        draws, carried = Draws(self._group, device), [self._halves, self._means]
        super().__init__(draws, [[self._weights]], config.weight_decay, carried)
        if self._one_pass:
            self._begin_moments()
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self._images = self._labels = self._losses = torch.empty(0)

    def _flatten(self, places: dict[Tensor, Tensor]) -> None:
        """Make all trained weights views of one vector, so that each update is one operation.

        In bfloat16 the working copy shares the weights that stay float32, which come first::

            _weights    float32   │ shared with the working copy │ kept in float32 for it │
            _gradients            │ float32                      │ bfloat16               │
            _reduced    float32   │      the mean gradient of both, if need be            │ loss │
            _halves     bfloat16                                 │ in the working copy    │
            _means      float32   │          the moving average of both                   │

        In float32 the working copy is the network itself, and all weights are of the first part.
        ``places`` is where the working copy writes gradients.
        """
        networks = (self._working, self.network, self.candidate)
        alike = zip(*(network.parameters() for network in networks), strict=True)
        trained = [weights for weights in alike if weights[0].requires_grad]
        trained.sort(key=lambda weights: weights[0].dtype == torch.bfloat16)
        working, whole, means = (list(weights) for weights in zip(*trained, strict=True))
        shared = [weight for weight in working if weight.dtype == torch.float32]
        halves = working[len(shared) :]
        self._weights, self._halves = as_one(whole, working), as_one(halves)
        self._means = torch.empty(0) if self.average is None else as_one(means, working)
        for weight, source in zip(shared, whole, strict=False):
            weight.data = source.data
        self._shared = len(self._weights) - len(self._halves)
        self._one_pass = bool(halves)
        # What is clipped or a mean is float32, and so is what PyTorch's AdamW takes.
        reduces = not self._one_pass or self._group.size > 1 or self.config.clip is not None
        # The loss travels with the gradient from device to device.
        self._reduced = self._weights.new_zeros(len(self._weights) * reduces + 1)
        self._loss = self._reduced[-1]
        self._weights.requires_grad_()
        if reduces:
            self._weights.grad = self._reduced[:-1]
        counts = [self._shared, len(self._halves)]
        self._means_of = list(self._reduced[:-1].split(counts)) if reduces else []
        self._gradients = []
        for index, weights in enumerate((shared, halves)):
            if reduces and weights is shared:
                vector = self._means_of[index]
            else:
                kind = torch.bfloat16 if weights is halves else torch.float32
                vector = self._weights.new_zeros(counts[index], dtype=kind, requires_grad=False)
            self._gradients.append(Gradient(weights, vector))
        if halves:
            self._gradients[-1].let_write(places)

    def _begin_moments(self) -> None:
        """AdamW's state as PyTorch's own would make it, in which it is kept and resumed."""
        zeros = {name: torch.zeros_like(self._weights) for name in ("exp_avg", "exp_avg_sq")}
        step = torch.zeros((), device=self.device)
        self.optimizer.state[self._weights].update(step=step, **zeros)

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
        if self.config.flip and network.training:
            mirrored = draws.uniform(len(images)) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(-1), images)
        t = draws.uniform(len(images))
        noise = draws.normal(images.shape) * self.model.flow.sigma
        dropout = self.config.condition_dropout if network.training else 0.0
        kept = draws.kept(len(images), dropout)
        return matching_loss(network, self.model.flow, images, noise, t, condition, kept)

    def step(self, split: Split, rows: Tensor, steps_per_epoch: int) -> Tensor:
        """One optimiser step on a batch; its loss, a scalar on the device that is overwritten."""
        p = self.progress
        step = p.epoch * steps_per_epoch + p.step
        rate = learning_rate(self.config, step, steps_per_epoch, p.halvings)
        if self.config.ema is not None:
            self._share.fill_(average_share(self.config.ema, step))
        rows = self._group.share(rows).to(split.images.device)
        images, labels = split.images[rows], split.labels[rows]
        if self._images.shape != images.shape:
            self._images, self._labels = images.to(self.device), labels.to(self.device)
            self._graph = None
        else:
            self._images.copy_(images)
            self._labels.copy_(labels)
        self._advance([rate], self.seed, "step", step)
        p.step += 1
        return self._loss

    def _update(self) -> None:
        """Forward, backward, mean, clip, AdamW and average, on the images and labels in place."""
        loss = self.loss(self._working, self._images, self._labels, self._draws)
        self._working.zero_grad(set_to_none=True)
        loss.backward()
        for gradient in self._gradients:
            gradient.gather()
        self._loss.copy_(loss.detach())
        for part, gradient in zip(self._means_of, self._gradients, strict=False):
            if part is not gradient.vector:
                part.copy_(gradient.vector)
        self._group.mean_(self._reduced)
        if self.config.clip is not None:
            nn.utils.clip_grad_norm_(self._weights, self.config.clip)
        if self._one_pass:
            self._adamw()
        else:
            self.optimizer.step()
            self._synchronise()
        if self.average is not None:
            self._means.lerp_(self._weights.detach(), self._share)

    @torch.no_grad()
    def _adamw(self) -> None:
        """`optimizer.step` and `_synchronise` in one pass over memory, a launch for each type."""
        from flowquant.training.adamw_kernel import adamw

        (group,), state = self.optimizer.param_groups, self.optimizer.state[self._weights]
        state["step"] += 1
        rate, step = group["lr"], state["step"]
        settings = group["betas"], group["eps"], group["weight_decay"]
        gradients = self._means_of or [gradient.vector for gradient in self._gradients]
        counts = [len(gradient) for gradient in gradients]
        vectors = (self._weights, state["exp_avg"], state["exp_avg_sq"])
        parts = zip(*(vector.split(counts) for vector in vectors), strict=True)
        copies = None, self._halves
        for (weights, first, second), gradient, copy in zip(parts, gradients, copies, strict=True):
            if len(weights):
                adamw(weights, gradient, first, second, copy, rate, step, *settings)

    @torch.no_grad()
    def _synchronise(self) -> None:
        self._halves.copy_(self._weights[self._shared :])

    def train_epoch(self, part: Part, bar: tqdm[Any], after_step: Callable[[], None]) -> float:
        """One pass over a part in a fresh order, whole batches only; returns the mean loss.

        Resumes after the step that `progress` names. ``after_step`` is called after each step.
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
            self._check(f"training step {p.epoch * steps + int(bad[0])}", losses[bad[0]].item())
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
        self, fit: Part, held_out: Part, bar: tqdm[Any], after_step: Callable[[], None]
    ) -> None:
        """Train and validate once, and keep the weights if they are the best so far."""
        started, p = time.monotonic(), self.progress
        train_loss = self.train_epoch(fit, bar, after_step)
        validation_loss = self.validate(held_out)
        self._check(f"validation after epoch {p.epoch + 1}", validation_loss)
        p.epoch, p.step = p.epoch + 1, 0
        p.seconds += time.monotonic() - started
        self._record(
            p.seconds, epoch=p.epoch, train_loss=train_loss, validation_loss=validation_loss
        )
        if validation_loss < p.best_loss:
            p.best_loss, p.best_epoch = validation_loss, p.epoch
            self.best = {k: v.detach().clone() for k, v in self.candidate.state_dict().items()}
        elif self.config.schedule == "plateau":
            p.halvings += (p.epoch - p.best_epoch) % self.config.halve_after == 0

    def run(
        self, fit: Part, held_out: Part, bar: tqdm[Any], after_step: Callable[[], None]
    ) -> None:
        """Train to the end, or from where this run was resumed; whatever end it is."""
        try:
            while not self.finished:
                self.run_epoch(fit, held_out, bar, after_step)
        finally:
            # NCCL ends only after the graphs that hold its operations.
            self._graph = None

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "network": self.network.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "progress": asdict(self.progress),
            "losses": self._losses,
            "best": self.best,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self._synchronise()
        self.progress = Progress(**state["progress"])
        self._losses = state["losses"].to(self.device)
        self.best = state["best"]
