"""Train a velocity network by flow matching; keep the weights with the best validation loss."""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from flowquant import keyed
from flowquant.artifacts import atomic, sha256, write_json
from flowquant.cli import run
from flowquant.dataset import Split, check_fits, place, read_dataset, read_validation
from flowquant.device import DeviceName, choose_device
from flowquant.errors import UserError
from flowquant.flow import matching_loss, to_unit
from flowquant.model import ModelConfig, describe_model, write_model


@dataclass(frozen=True)
class TrainingConfig:
    """How a network is trained (the keys under ``training`` in a dataset's preset)."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    schedule: Literal["plateau", "cosine"]
    warmup_epochs: float
    halve_after: int
    stop_after: int
    clip: float | None
    validation: int | None
    condition_dropout: float
    ema: float | None
    precision: Literal["float32", "bfloat16"]


@dataclass
class Progress:
    """Where training stands, besides the weights and the optimiser's state."""

    epoch: int = 0
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


@dataclass(frozen=True)
class Part:
    """Some rows of a split, int64 [N]."""

    split: Split
    rows: Tensor

    def __len__(self) -> int:
        return len(self.rows)


class Training:
    """A training run that can be stopped after any epoch and gone on with."""

    def __init__(
        self, model: ModelConfig, config: TrainingConfig, seed: int, device: torch.device
    ) -> None:
        torch.manual_seed(keyed.key(seed, "initial weights"))
        self.model, self.config, self.seed, self.device = model, config, seed, device
        self.network = model.build().to(device)
        self.averaged = (
            AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(config.ema))
            if config.ema is not None
            else None
        )
        self.optimizer = torch.optim.AdamW(
            [p for p in self.network.parameters() if p.requires_grad],
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=device.type == "cuda",
        )
        self.progress = Progress()
        self.best: dict[str, Tensor] = {}
        self.curve: list[dict[str, float]] = []

    @property
    def candidate(self) -> nn.Module:
        """The network whose weights are validated and kept."""
        return self.network if self.averaged is None else self.averaged.module

    @property
    def finished(self) -> bool:
        """All epochs done, or none of the last ``stop_after`` was better than the best."""
        p, config = self.progress, self.config
        return p.epoch >= config.epochs or p.epoch - p.best_epoch >= config.stop_after

    def loss(
        self, network: nn.Module, split: Split, rows: Tensor, draws: torch.Generator
    ) -> Tensor:
        """The flow-matching loss on some rows of a split, with fresh times and noise."""
        rows = rows.to(split.images.device)
        images = to_unit(split.images[rows].to(self.device))
        condition = split.labels[rows].to(self.device)
        t = torch.rand(len(rows), generator=draws, device=self.device)
        noise = torch.randn(images.shape, generator=draws, device=self.device)
        keep = None
        if network.training and self.config.condition_dropout > 0:
            uniform = torch.rand(len(rows), generator=draws, device=self.device)
            keep = (uniform >= self.config.condition_dropout).float()
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"
        ):
            return matching_loss(
                network, self.model.flow, images, noise * self.model.flow.sigma, t, condition, keep
            )

    def train_epoch(self, split: Split, rows: Tensor, bar: tqdm[Any]) -> float:
        """One pass over ``rows`` in a fresh order, whole batches only; returns the mean loss."""
        p, config = self.progress, self.config
        order = rows[torch.randperm(len(rows), generator=self._draws("shuffle", p.epoch, "cpu"))]
        steps = len(rows) // config.batch
        losses = torch.zeros(steps, device=self.device)
        self.network.train()
        for index, batch in enumerate(order[: steps * config.batch].view(steps, config.batch)):
            step = p.epoch * steps + index
            rate = learning_rate(config, step, steps, p.halvings)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(keyed.key(self.seed, "dropout", step))
            loss = self.loss(self.network, split, batch, self._draws("training", step))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if config.clip is not None:
                nn.utils.clip_grad_norm_(self.network.parameters(), config.clip)
            self.optimizer.step()
            if self.averaged is not None:
                self.averaged.update_parameters(self.network)
            losses[index] = loss.detach()
            bar.update()
            if step % 20 == 0:
                bar.set_postfix(epoch=p.epoch + 1, loss=f"{loss.item():.4f}", refresh=False)
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            raise UserError(
                f"training step {p.epoch * steps + int(bad[0])}",
                found=f"a loss of {losses[bad[0]].item()}",
                expected="a finite loss",
                remedy="Lower `training.learning_rate` or lengthen `training.warmup_epochs`.",
            )
        return losses.mean().item()

    @torch.no_grad()
    def validate(self, split: Split, rows: Tensor) -> float:
        """The candidate's mean loss on ``rows``, with the same times and noise every epoch."""
        network = self.candidate.eval()
        total = 0.0
        for index, batch in enumerate(rows.split(512)):
            loss = self.loss(network, split, batch, self._draws("validation", index))
            total += loss.item() * len(batch)
        return total / len(rows)

    def run_epoch(self, fit: Part, held_out: Part, bar: tqdm[Any]) -> None:
        """Train and validate once, and keep the weights if they are the best so far."""
        started, p = time.monotonic(), self.progress
        train_loss = self.train_epoch(fit.split, fit.rows, bar)
        validation_loss = self.validate(held_out.split, held_out.rows)
        p.epoch += 1
        p.seconds += time.monotonic() - started
        rate = self.optimizer.param_groups[0]["lr"]
        self.curve.append(
            {
                "epoch": p.epoch,
                "train_loss": train_loss,
                "validation_loss": validation_loss,
                "learning_rate": rate,
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
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
            "best": self.best,
            "curve": self.curve,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.network.load_state_dict(state["network"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        self.best, self.curve = state["best"], state["curve"]

    def _draws(
        self, purpose: str, index: int, device: torch.device | str | None = None
    ) -> torch.Generator:
        return keyed.generator(self.seed, purpose, index, device or self.device)


def hold_out(split: Split, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rows to fit and ``count`` rows to validate on, drawn without replacement."""
    order = torch.randperm(len(split), generator=keyed.generator(seed, "validation split"))
    return order[count:], order[:count]


def fit_and_held_out(
    data: Path, model: ModelConfig, training: TrainingConfig, seed: int, device: torch.device
) -> tuple[Part, Part]:
    """What to fit and what to validate on: the dataset's own validation split, or rows held out.

    Raises:
        UserError: if the data do not fit the preset, or are too few.
    """
    split, _ = read_dataset(data)
    check_fits(data, split, model.image, model.condition)
    own = read_validation(data)
    held_out = training.validation or 0
    if training.validation is None and own is None:
        raise UserError(
            "training.validation",
            found=f"null for {data}, which has no validation split",
            expected="the number of training images to hold out",
            remedy="Set `training.validation`.",
        )
    if len(split) - held_out < training.batch:
        raise UserError(
            "training",
            found=f"`validation: {training.validation}` and `batch: {training.batch}` for "
            f"{len(split)} training images",
            expected="at least one batch of images besides the held-out ones",
            remedy="Make `training.validation` or `training.batch` smaller.",
        )
    split = place(split, device)
    if training.validation is None and own is not None:
        check_fits(data, own, model.image, model.condition)
        return Part(split, torch.arange(len(split))), Part(own, torch.arange(len(own)))
    fit, rest = hold_out(split, held_out, seed)
    return Part(split, fit), Part(split, rest)


def train(
    data: Path,
    output: Path,
    report: Path,
    curve: Path,
    checkpoint: Path,
    dataset: str,
    model: ModelConfig,
    training: TrainingConfig,
    seed: int = 0,
    device: DeviceName = "auto",
    checkpoint_seconds: float = 60.0,
) -> None:
    """Train a velocity network and write its best weights.

    A run that was killed goes on from its checkpoint if it is the same run (same configuration,
    seed and data) and ends with the weights it would have had.

    Args:
        data: Dataset file; its training split is used, and its validation split if the preset
            says so (``validation`` None).
        output: The model file to write.
        report: JSON to write: size and best epoch.
        curve: Training curve to write, one JSON object an epoch.
        checkpoint: Where to keep the state of an unfinished run; removed at the end.
        dataset: Name to write into the report.
        model: What to train.
        training: How to train it.
        seed: Of initial weights, split, order, times, noise and dropout.
        device: Where to compute.
        checkpoint_seconds: Least time between two checkpoints.

    Raises:
        UserError: if the data do not fit the preset, or the loss is no longer finite.
    """
    where = choose_device(device)
    fit, held_out = fit_and_held_out(data, model, training, seed, where)
    run_ = Training(model, training, seed, where)
    identity = _identity(data, model, training, seed)
    if (state := _read_checkpoint(checkpoint, identity, where)) is not None:
        run_.load_state(state)
        tqdm.write(f"going on after epoch {run_.progress.epoch}, from {checkpoint}")
    steps = len(fit) // training.batch
    saved = time.monotonic()
    with tqdm(
        total=training.epochs * steps,
        initial=run_.progress.epoch * steps,
        unit="step",
        mininterval=1.0,
        desc=output.stem,
    ) as bar:
        while not run_.finished:
            run_.run_epoch(fit, held_out, bar)
            if time.monotonic() - saved >= checkpoint_seconds:
                with atomic(checkpoint) as temporary:
                    torch.save({"identity": identity, **run_.state()}, temporary)
                saved = time.monotonic()
    with atomic(curve) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in run_.curve))
    best = asdict(run_.progress)
    provenance = {"training": asdict(training), "seed": seed, "best": best}
    write_model(output, run_.best, model, provenance)
    write_json(report, describe_model(output, dataset) | best)
    checkpoint.unlink(missing_ok=True)


def _identity(data: Path, model: ModelConfig, training: TrainingConfig, seed: int) -> str:
    content = json.dumps([sha256(data), asdict(model), asdict(training), seed])
    return hashlib.sha256(content.encode()).hexdigest()


def _read_checkpoint(path: Path, identity: str, device: torch.device) -> dict[str, Any] | None:
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state if state.pop("identity") == identity else None


if __name__ == "__main__":
    run(train)
