"""Training a quantized model to match the full-precision velocity."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from tqdm import tqdm

from flowquant.config.custom import CustomConfig
from flowquant.config.model import ModelConfig
from flowquant.config.refinement import RefineConfig
from flowquant.data.dataset import Split
from flowquant.models.model import empty_network, load_network
from flowquant.models.path import velocity
from flowquant.quantization.codebook import Codebook
from flowquant.runtime.device import compute_dtype
from flowquant.sampling.trajectories import Points, image_points, trajectory_points
from flowquant.training.distributed import Draws, Group
from flowquant.training.optimization import Optimization, one_cycle, use_bfloat16
from flowquant.training.trainable import TrainableLevels

# So many steps make a row of the curve: reading their loss waits for the GPU.
LOG_STEPS = 50


class Refinement(Optimization):
    """A refinement of a quantized model, codebooks and float tensors by name, to updated levels.

    ``full`` are the full-precision weights by name. Points are drawn from the training images of
    ``split``, or with ``data: trajectories`` from the full-precision network's. The condition is
    withheld with the probability ``condition_dropout``, as in training.
    """

    remedy = "Lower `refine.learning_rate` or `refine.value_learning_rate`."

    def __init__(
        self,
        full: dict[str, Tensor],
        quantized: dict[str, Codebook | Tensor],
        model: ModelConfig,
        config: RefineConfig,
        split: Split,
        device: torch.device,
        condition_dropout: float = 0.0,
    ) -> None:
        self.model, self.config, self.condition_dropout = model, config, condition_dropout
        self.full = {name: tensor.to(device) for name, tensor in full.items()}
        self.teacher = load_network(self.full, model)
        network = model.network
        if not isinstance(network, CustomConfig):
            network = replace(network, dropout=0.0)
        still = replace(model, network=network)
        self.student = empty_network(still).eval()
        if compute_dtype(device, config.precision) == torch.bfloat16:
            use_bfloat16(self.student, self.teacher, device)
        trained = config.assignments == "trained"
        self.trainable = TrainableLevels(quantized, device, self.full if trained else None)
        self.dtypes = {n: c.dtype for n, c in quantized.items() if isinstance(c, Tensor)}
        self.floats = {
            # A copy, also where the tensor is float32 on this device already.
            name: quantized[name].detach().to(device, torch.float32, copy=True)  # type: ignore[union-attr]
            for name in self.dtypes
        }
        learned = {name for name, p in self.student.named_parameters() if p.requires_grad}
        floats = [tensor.requires_grad_() for n, tensor in self.floats.items() if n in learned]
        groups, self._peaks = [[*self.trainable.levels, *floats]], [config.learning_rate]
        if self.trainable.values:
            groups.append(self.trainable.values)
            self._peaks.append(config.value_learning_rate)
        self._total = torch.zeros((), device=device)
        self._damping = torch.zeros((), device=device)
        super().__init__(Draws(Group(), device), groups, weight_decay=0, carried=[self._total])
        self.steps_done, self.seconds = 0, 0.0
        self.draw = self._source(split, device)

    def _source(self, split: Split, device: torch.device) -> Callable[[int], Points]:
        """Where points come from: a function of how many."""
        config = self.config
        if config.data == "trajectories":
            count, steps = config.trajectories, config.trajectory_steps
            return trajectory_points(
                self.teacher, self.model, count, steps, config.seed, device
            ).draw
        images, labels = split.images.to(device), split.labels.to(device)
        return lambda count: image_points(images, labels, self.model.flow.sigma, count)

    def _velocities(self, points: Points, kept: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The quantized network's velocity and the full one's, [B, C, H, W] each."""
        held = self.trainable.expand() | self.floats
        kinds = {name: p.dtype for name, p in self.student.named_parameters()}
        weights = {name: tensor.to(kinds[name]) for name, tensor in held.items()}

        def network(*inputs: Any) -> Tensor:
            return functional_call(self.student, weights, inputs)

        given = self.model.flow, points.x, points.t, points.condition, kept
        with torch.no_grad():
            target = velocity(self.teacher, *given)
        return velocity(network, *given), target  # type: ignore[arg-type]

    def _update(self) -> None:
        """One step on fresh points; adds its loss to the total."""
        points = self.draw(self.config.batch)
        kept = self._draws.kept(len(points.t), self.condition_dropout)
        found, target = self._velocities(points, kept)
        loss = (found - target).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.trainable.damp(self._damping)
        self._total += loss.detach()

    def step(self) -> None:
        """One optimiser step, and before it a reassignment where the rounds say so."""
        step, config = self.steps_done, self.config
        if step in [config.steps * (i + 1) // (config.rounds + 1) for i in range(config.rounds)]:
            share = self.trainable.reassign(self.full)
            tqdm.write(f"step {step}: {share:.2%} of the values got another level")
        self._damping.fill_(config.damping * step / config.steps)
        rates = [one_cycle(peak, step, config.steps) for peak in self._peaks]
        self._advance(rates, config.seed, "refine", step)
        self.steps_done += 1

    def run(self, bar: tqdm[Any], after_steps: Callable[[], None]) -> None:
        """Refine to the end, or from where this run was resumed.

        The mean loss of every `LOG_STEPS` steps goes onto the curve, and ``after_steps`` is called.

        Raises:
            UserError: if the loss is no longer finite.
        """
        while self.steps_done < self.config.steps:
            started = time.monotonic()
            count = min(LOG_STEPS, self.config.steps - self.steps_done)
            self._total.zero_()
            for _ in range(count):
                self.step()
                bar.update()
            mean = self._total.item() / count
            self.seconds += time.monotonic() - started
            self._check(f"refinement step {self.steps_done}", mean)
            bar.set_postfix(loss=f"{mean:.3g}", refresh=False)
            self._record(self.seconds, step=self.steps_done, loss=mean)
            after_steps()

    @torch.no_grad()
    def velocity_error(self, points: Points, batch: int = 512) -> float:
        """E‖v_q − v_full‖² ÷ E‖v_full‖² at some points."""
        squares = total = 0.0
        for part in points.split(batch):
            found, target = self._velocities(part)
            squares += (found - target).square().sum().item()
            total += target.square().sum().item()
        return squares / total

    def result(self) -> dict[str, Codebook | Tensor]:
        """The refined model as it stands, in the types it came in, on the CPU."""
        floats = {n: t.detach().to(self.dtypes[n]).cpu() for n, t in self.floats.items()}
        return {**self.trainable.codebooks(), **floats}

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "levels": [tensor.detach() for tensor in self.trainable.levels],
            "values": [tensor.detach() for tensor in self.trainable.values],
            "codes": [tensor.int() for tensor in self.trainable.indices],
            "floats": {name: tensor.detach() for name, tensor in self.floats.items()},
            "step": self.steps_done,
            "seconds": self.seconds,
        }

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        tensors = [*self.trainable.levels, *self.trainable.values, *self.trainable.indices]
        kept = [*state["levels"], *state["values"], *state["codes"]]
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)
        for name, tensor in self.floats.items():
            tensor.copy_(state["floats"][name])
        self.steps_done, self.seconds = state["step"], state["seconds"]
