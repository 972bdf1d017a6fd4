"""Refine a quantized model: train levels and unquantized parameters to match full precision.

Minimises E‖v_q(x_t, t, y) − v_full(x_t, t, y)‖² over the levels and the parameters that stayed
float, while each value keeps its level (or is given the nearest one anew, in rounds).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call
from tqdm import tqdm

from flowquant import keyed
from flowquant.artifacts import atomic, sha256, write_json
from flowquant.cli import run
from flowquant.codebook import Codebook, bits_of, effective_bits, expand
from flowquant.dataset import Split, check_fits, read_dataset
from flowquant.device import DeviceName, choose_device
from flowquant.distance import mean_squared_error, wasserstein2
from flowquant.errors import UserError
from flowquant.flow import velocity
from flowquant.model import ModelConfig, load_network, read_model
from flowquant.packed_file import read_quantized, write_quantized
from flowquant.points import Points, drawn_from, image_points, trajectory_points
from flowquant.resume import Keeper, identity, load_state
from flowquant.trainable import TrainableLevels

LOG_STEPS = 50


@dataclass(frozen=True)
class RefineConfig:
    """How a quantized model is refined (the keys under ``refine`` in a method's row)."""

    steps: int
    batch: int
    learning_rate: float
    data: Literal["images", "trajectories"]
    trajectories: int
    trajectory_steps: int
    rounds: int
    precision: Literal["float32", "bfloat16"]
    compile: bool
    seed: int


def one_cycle(peak: float, step: int, steps: int) -> float:
    """Learning rate at ``step``: a cosine up from peak/25 for 30 % of the steps, then down to 0."""
    rise = max(1.0, 0.3 * steps)
    if step < rise:
        return peak * (1 / 25 + (1 - 1 / 25) * 0.5 * (1 - math.cos(math.pi * step / rise)))
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))


class Refinement:
    """A refinement that can be stopped between two steps and gone on with."""

    def __init__(
        self,
        full: dict[str, Tensor],
        quantized: dict[str, Codebook | Tensor],
        model: ModelConfig,
        config: RefineConfig,
        device: torch.device,
        withhold: float = 0.0,
    ) -> None:
        self.model, self.config, self.device, self.withhold = model, config, device, withhold
        self.full = {name: tensor.to(device) for name, tensor in full.items()}
        self.teacher = load_network(self.full, model)
        self.student = model.build_empty().eval()
        self.levels = TrainableLevels(quantized, device)
        trained = {name for name, p in self.student.named_parameters() if p.requires_grad}
        self.dtypes = {n: c.dtype for n, c in quantized.items() if isinstance(c, Tensor)}
        self.floats = {
            # A copy, also where the tensor is float32 on this device already.
            name: quantized[name].detach().to(device, torch.float32, copy=True)  # type: ignore[union-attr]
            for name in self.dtypes
        }
        trainable = [t.requires_grad_() for name, t in self.floats.items() if name in trained]
        self.optimizer = torch.optim.Adam(
            [*self.levels.levels, *trainable],
            lr=torch.tensor(config.learning_rate) if config.compile else config.learning_rate,
            fused=device.type == "cuda",
        )
        self.step = 0
        self.seconds = 0.0
        self.curve: list[dict[str, float]] = []
        self.loss_of: Callable[[Points, Tensor, Tensor | None], Tensor] = self._loss
        if config.compile:
            self.loss_of = torch.compile(self._loss)
            self.teacher = torch.compile(self.teacher)  # type: ignore[assignment]

    @property
    def autocast(self) -> Any:
        """The precision of forward passes."""
        enabled = self.config.precision == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _loss(self, points: Points, target: Tensor, keep: Tensor | None) -> Tensor:
        dtype = torch.bfloat16 if self.config.precision == "bfloat16" else torch.float32
        weights = {**self.levels.expand(self.levels.levels, dtype), **self.floats}

        def network(*inputs: Any) -> Tensor:
            return functional_call(self.student, weights, inputs)

        found = velocity(
            network,  # type: ignore[arg-type]
            self.model.flow,
            points.x,
            points.t,
            points.condition,
            keep,
        )
        return (found.float() - target.float()).square().mean()

    def loss(self, points: Points, draws: torch.Generator | None = None) -> Tensor:
        """Mean squared difference of the two velocities."""
        keep = None
        if self.withhold > 0 and draws is not None:
            chance = torch.rand(len(points.t), generator=draws, device=self.device)
            keep = (chance >= self.withhold).float()
        with self.autocast:
            with torch.no_grad():
                target = velocity(
                    self.teacher, self.model.flow, points.x, points.t, points.condition, keep
                )
            return self.loss_of(points, target, keep)

    def train(
        self,
        draw: Callable[[torch.Generator], Points],
        steps: int,
        bar: tqdm[Any],
    ) -> None:
        """Some steps of Adam, then their mean loss onto the curve; the one wait for the GPU."""
        started, config = time.monotonic(), self.config
        losses = torch.zeros((), device=self.device)
        for _ in range(steps):
            if self.step in self._reassignments():
                share = self.levels.reassign(self.full)
                tqdm.write(f"step {self.step}: {share:.2%} of the values got another level")
            rate = one_cycle(config.learning_rate, self.step, config.steps)
            for group in self.optimizer.param_groups:
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate
            draws = keyed.generator(config.seed, "refine", self.step, self.device)
            loss = self.loss(draw(draws), draws)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            losses += loss.detach()
            self.step += 1
            bar.update()
        mean = losses.item() / steps
        self.seconds += time.monotonic() - started
        if not math.isfinite(mean):
            raise UserError(
                f"refinement step {self.step}",
                found=f"a loss of {mean}",
                expected="a finite loss",
                remedy="Lower `refine.learning_rate`.",
            )
        bar.set_postfix(loss=f"{mean:.3g}", refresh=False)
        self.curve.append(
            {
                "step": self.step,
                "loss": mean,
                "learning_rate": rate,
                "seconds": round(self.seconds, 3),
            }
        )

    def _reassignments(self) -> set[int]:
        rounds, steps = self.config.rounds, self.config.steps
        return {steps * (index + 1) // (rounds + 1) for index in range(rounds)}

    @torch.no_grad()
    def velocity_error(self, points: Points, batch: int = 512) -> float:
        """E‖v_q − v_full‖² ÷ E‖v_full‖² at some points."""
        squares, total = 0.0, 0.0
        for rows in torch.arange(len(points.t)).split(batch):
            part = Points(*(tensor[rows.to(self.device)] for tensor in vars(points).values()))
            with self.autocast:
                target = velocity(self.teacher, self.model.flow, part.x, part.t, part.condition)
                squares += self._loss(part, target, None).item() * len(rows)
            total += target.float().square().mean().item() * len(rows)
        return squares / total

    def result(self) -> dict[str, Codebook | Tensor]:
        """The refined model as it stands, in the types it came in, on the CPU."""
        floats = {n: t.detach().to(self.dtypes[n]).cpu() for n, t in self.floats.items()}
        return {**self.levels.codebooks(), **floats}

    def state(self) -> dict[str, Any]:
        """All that `load` needs to go on."""
        return {
            "levels": [tensor.detach() for tensor in self.levels.levels],
            "codes": [tensor.int() for tensor in self.levels.codes],
            "floats": {name: tensor.detach() for name, tensor in self.floats.items()},
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "curve": self.curve,
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        for mine, kept in zip(self.levels.levels, state["levels"], strict=True):
            mine.copy_(kept)
        for mine, kept in zip(self.levels.codes, state["codes"], strict=True):
            mine.copy_(kept)
        for name, tensor in self.floats.items():
            tensor.copy_(state["floats"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.curve = state["step"], state["seconds"], state["curve"]


def refine(
    model: Path,
    unrefined: Path,
    data: Path,
    output: Path,
    report: Path,
    curve: Path,
    checkpoint: Path,
    dataset: str,
    variant: str,
    refine: RefineConfig,
    withhold: float = 0.0,
    device: DeviceName = "auto",
    checkpoint_seconds: float = 60.0,
) -> None:
    """Refine a quantized model and write it packed, as `quantize` does.

    A run that was killed goes on from its checkpoint.

    Args:
        model: The full-precision model file.
        unrefined: The quantized model to start from.
        data: Dataset file; its training images are used, unless ``refine.data`` is trajectories.
        output: The packed file to write.
        report: JSON to write: size, errors, and the velocity error before and after.
        curve: JSON lines to write: step, loss, learning rate, seconds.
        checkpoint: Where to keep the state of an unfinished run; removed at the end.
        dataset: Name to write into the report.
        variant: Name to write into the report.
        refine: How to refine.
        withhold: Probability of withholding the condition, as in training.
        device: Where to compute.
        checkpoint_seconds: Least time between two checkpoints.

    Raises:
        UserError: if a file is unreadable, or the loss is no longer finite.
    """
    full, config = read_model(model)
    quantized, metadata = read_quantized(unrefined)
    split, _ = read_dataset(data)
    check_fits(data, split, config.image, config.condition)
    where = choose_device(device)
    job = Refinement(full, quantized, config, refine, where, withhold)
    draw = point_source(job, split)
    held = draw(keyed.generator(refine.seed, "refine validation", 0, where), 2048)
    before = job.velocity_error(held)
    name = identity(sha256(model), sha256(unrefined), sha256(data), asdict(refine), withhold)
    if (state := load_state(checkpoint, name, where)) is not None:
        job.load(state)
        tqdm.write(f"going on after step {job.step}, from {checkpoint}")
    with (
        tqdm(
            total=refine.steps, initial=job.step, unit="step", mininterval=1.0, desc=variant
        ) as bar,
        Keeper(checkpoint, name, job.state, checkpoint_seconds) as keep,
    ):
        while job.step < refine.steps:
            job.train(
                lambda draws: draw(draws, refine.batch),
                min(LOG_STEPS, refine.steps - job.step),
                bar,
            )
            keep()
    after = job.velocity_error(held)
    result = job.result()
    with atomic(curve) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in job.curve))
    tensors = {
        name: described | _errors(result[name], full[name])
        for name, described in metadata["tensors"].items()
    }
    told = {key: metadata[key] for key in ("model", "method", "bits", "source_sha256")}
    write_quantized(output, result, {**told, "tensors": tensors, "refine": asdict(refine)})
    write_json(
        report,
        {
            "dataset": dataset,
            "variant": variant,
            "method": metadata["method"],
            "refine": asdict(refine),
            "effective_bits": effective_bits(result),
            "bytes": output.stat().st_size,
            "full_bytes": model.stat().st_size,
            "seconds": round(job.seconds, 3),
            "velocity_error": {"before": before, "after": after},
            "tensors": tensors,
        },
    )
    checkpoint.unlink(missing_ok=True)


def point_source(job: Refinement, split: Split) -> Callable[[torch.Generator, int], Points]:
    """Where points come from: a function of a generator and a number."""
    config, model = job.config, job.model
    if config.data == "trajectories":
        with job.autocast:
            points = trajectory_points(
                job.teacher,
                model,
                config.trajectories,
                config.trajectory_steps,
                config.seed,
                job.device,
            )
        return lambda draws, count: drawn_from(points, count, draws)
    images, labels = split.images.to(job.device), split.labels.to(job.device)
    return lambda draws, count: image_points(images, labels, model.flow.sigma, count, draws)


def _errors(content: Codebook | Tensor, full: Tensor) -> dict[str, Any]:
    values = expand(content)
    return {
        "bytes": -(-bits_of(content) // 8),
        "mean_squared_error": mean_squared_error(full, values),
        "w2": wasserstein2(full, values),
    }


if __name__ == "__main__":
    run(refine)
