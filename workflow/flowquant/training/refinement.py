"""Training a quantized model to match the full-precision velocity."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from tqdm import tqdm

from flowquant.config.model import ModelConfig
from flowquant.config.refinement import RefineConfig
from flowquant.data.dataset import Split
from flowquant.models.model import empty_network, load_network
from flowquant.models.path import velocity
from flowquant.quantization.codebook import Codebook
from flowquant.runtime import random
from flowquant.runtime.cuda_graph import capture
from flowquant.runtime.device import compute_dtype
from flowquant.runtime.errors import UserError
from flowquant.sampling.trajectories import Points, drawn_from, image_points, trajectory_points
from flowquant.training.trainable import TrainableLevels


def one_cycle(peak: float, step: int, steps: int) -> float:
    """Learning rate at ``step``: a cosine up from peak/25 for 30 % of the steps, then down to 0."""
    rise = max(1.0, 0.3 * steps)
    if step < rise:
        return peak * (1 / 25 + (1 - 1 / 25) * 0.5 * (1 - math.cos(math.pi * step / rise)))
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))


class Refinement:
    """A refinement that can be stopped between two steps and gone on with.

    On a GPU a step, from the draw of its points to updated levels, is captured as one CUDA graph,
    and both networks' encoder layers run fused.

    Args:
        full: The full-precision weights by name.
        quantized: What to refine: codebooks and float tensors by name.
        model: What network they belong to.
        config: How to refine.
        split: Training images; not used with ``data: trajectories``.
        device: Where to compute.
        withhold: Probability of withholding the condition, as in training.
    """

    def __init__(
        self,
        full: dict[str, Tensor],
        quantized: dict[str, Codebook | Tensor],
        model: ModelConfig,
        config: RefineConfig,
        split: Split,
        device: torch.device,
        withhold: float = 0.0,
    ) -> None:
        self.model, self.config, self.device, self.withhold = model, config, device, withhold
        self.full = {name: tensor.to(device) for name, tensor in full.items()}
        self.teacher = load_network(self.full, model)
        still = replace(model, network=replace(model.network, dropout=0.0))
        self.student = empty_network(still).eval()
        if compute_dtype(device, config.precision) == torch.bfloat16:
            from flowquant.models.fused import fuse, fuse_for_training

            self.teacher.cast(torch.bfloat16)  # type: ignore[operator]
            self.student.cast(torch.bfloat16)  # type: ignore[operator]
            fuse(self.teacher)
            fuse_for_training(self.student, device)
        trained = config.assignments == "trained"
        self.levels = TrainableLevels(quantized, device, self.full if trained else None)
        self.dtypes = {n: c.dtype for n, c in quantized.items() if isinstance(c, Tensor)}
        self.floats = {
            # A copy, also where the tensor is float32 on this device already.
            name: quantized[name].detach().to(device, torch.float32, copy=True)  # type: ignore[union-attr]
            for name in self.dtypes
        }
        learned = {name for name, p in self.student.named_parameters() if p.requires_grad}
        floats = [tensor.requires_grad_() for n, tensor in self.floats.items() if n in learned]
        self.peaks = [config.learning_rate, config.value_learning_rate]
        groups = [[*self.levels.levels, *floats], self.levels.values]
        on_gpu = device.type == "cuda"
        self.optimizer = torch.optim.Adam(
            [
                # Rates are tensors where a captured step must see them change.
                {"params": group, "lr": torch.tensor(peak, device=device) if on_gpu else peak}
                for group, peak in zip(groups, self.peaks, strict=True)
                if group
            ],
            fused=on_gpu,
            capturable=on_gpu,
        )
        self.step, self.seconds = 0, 0.0
        self.curve: list[dict[str, float]] = []
        self.draw = self._source(split)
        self._total = torch.zeros((), device=device)
        self._damping = torch.zeros((), device=device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def _source(self, split: Split) -> Callable[[int], Points]:
        """Where points come from: a function of how many."""
        config = self.config
        if config.data == "trajectories":
            points = trajectory_points(
                self.teacher,
                self.model,
                config.trajectories,
                config.trajectory_steps,
                config.seed,
                self.device,
            )
            return lambda count: drawn_from(points, count)
        images, labels = split.images.to(self.device), split.labels.to(self.device)
        return lambda count: image_points(images, labels, self.model.flow.sigma, count)

    def _velocities(self, points: Points, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The quantized network's velocity and the full one's, [B, C, H, W] each."""
        held = self.levels.expand() | self.floats
        kinds = {name: p.dtype for name, p in self.student.named_parameters()}
        weights = {name: tensor.to(kinds[name]) for name, tensor in held.items()}

        def network(*inputs: Any) -> Tensor:
            return functional_call(self.student, weights, inputs)

        given = self.model.flow, points.x, points.t, points.condition, keep
        with torch.no_grad():
            target = velocity(self.teacher, *given)
        return velocity(network, *given), target  # type: ignore[arg-type]

    def _update(self) -> None:
        """One step of Adam on fresh points; adds its loss to the total."""
        points, keep = self.draw(self.config.batch), None
        if self.withhold > 0:
            keep = (torch.rand(len(points.t), device=self.device) >= self.withhold).float()
        found, target = self._velocities(points, keep)
        loss = (found - target).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.levels.damp(self._damping)
        self._total += loss.detach()

    def train(self, steps: int, bar: tqdm[Any]) -> None:
        """Some steps, then their mean loss onto the curve; the one wait for the GPU.

        Every step reseeds torch's generators by (seed, step).

        Raises:
            UserError: if the loss is no longer finite.
        """
        started, config = time.monotonic(), self.config
        if self.device.type == "cuda" and self._graph is None:
            self._graph = capture(self._update, self._changed)
        self._total.zero_()
        for _ in range(steps):
            if self.step in self._reassignments():
                share = self.levels.reassign(self.full)
                tqdm.write(f"step {self.step}: {share:.2%} of the values got another level")
            for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=False):
                rate = one_cycle(peak, self.step, config.steps)
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate
            self._damping.fill_(config.damping * self.step / config.steps)
            torch.manual_seed(random.key(config.seed, "refine", self.step))
            if self._graph is None:
                self._update()
            else:
                self._graph.replay()
            self.step += 1
            bar.update()
        mean = self._total.item() / steps
        self.seconds += time.monotonic() - started
        if not math.isfinite(mean):
            raise UserError(
                f"refinement step {self.step}",
                found=f"a loss of {mean}",
                expected="a finite loss",
                remedy="Lower `refine.learning_rate` or `refine.value_learning_rate`.",
            )
        bar.set_postfix(loss=f"{mean:.3g}", refresh=False)
        self.curve.append(
            {
                "step": self.step,
                "loss": mean,
                "learning_rate": float(self.optimizer.param_groups[0]["lr"]),
                "seconds": round(self.seconds, 3),
            }
        )

    def _changed(self) -> Iterator[Tensor]:
        yield self._total
        for group in self.optimizer.param_groups:
            for tensor in group["params"]:
                yield tensor
                yield from self.optimizer.state[tensor].values()

    def _reassignments(self) -> set[int]:
        rounds, steps = self.config.rounds, self.config.steps
        return {steps * (index + 1) // (rounds + 1) for index in range(rounds)}

    @torch.no_grad()
    def velocity_error(self, points: Points, batch: int = 512) -> float:
        """E‖v_q − v_full‖² ÷ E‖v_full‖² at some points."""
        squares = total = 0.0
        for rows in torch.arange(len(points.t), device=self.device).split(batch):
            part = Points(*(tensor[rows] for tensor in vars(points).values()))
            found, target = self._velocities(part)
            squares += (found - target).square().sum().item()
            total += target.square().sum().item()
        return squares / total

    def result(self) -> dict[str, Codebook | Tensor]:
        """The refined model as it stands, in the types it came in, on the CPU."""
        floats = {n: t.detach().to(self.dtypes[n]).cpu() for n, t in self.floats.items()}
        return {**self.levels.codebooks(), **floats}

    def state(self) -> dict[str, Any]:
        """All that `load` needs to go on."""
        return {
            "levels": [tensor.detach() for tensor in self.levels.levels],
            "values": [tensor.detach() for tensor in self.levels.values],
            "codes": [tensor.int() for tensor in self.levels.codes],
            "floats": {name: tensor.detach() for name, tensor in self.floats.items()},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken; before the first step of this object."""
        for name in ("levels", "values", "codes"):
            for mine, kept in zip(getattr(self.levels, name), state[name], strict=True):
                mine.copy_(kept)
        for name, tensor in self.floats.items():
            tensor.copy_(state["floats"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.curve = state["step"], state["seconds"], state["curve"]
