"""Training a quantized model to match the full-precision velocity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from flowquant.config.custom import CustomConfig
from flowquant.config.model import ModelConfig
from flowquant.config.refinement import RefineConfig
from flowquant.data.dataset import Split
from flowquant.models.model import empty_network, load_network
from flowquant.models.path import velocity
from flowquant.quantization.codebook import Codebook, expand_all
from flowquant.runtime.device import compute_dtype
from flowquant.sampling.trajectories import Points, image_points, trajectory_points
from flowquant.training.distributed import Group
from flowquant.training.matching import Matching
from flowquant.training.optimization import use_bfloat16


class Refinement(Matching):
    """A refinement of a quantized model, codebooks and float tensors by name, to updated levels.

    ``full`` are the full-precision weights by name. Points are drawn from the training images of
    ``split``, or with ``data: trajectories`` from the full-precision network's. The condition is
    withheld with the probability ``condition_dropout``, as in training. With ``from_levels``
    trained values start from the levels that they have, which compensation chose.
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
        group: Group | None = None,
        from_levels: bool = False,
    ) -> None:
        self.model, self.condition_dropout = model, condition_dropout
        moved = {name: tensor.to(device) for name, tensor in full.items()}
        self.teacher = load_network(moved, model)
        network = model.network
        if not isinstance(network, CustomConfig):
            network = replace(network, dropout=0.0)
        student = empty_network(replace(model, network=network)).eval()
        if compute_dtype(device, config.precision) == torch.bfloat16:
            use_bfloat16(student, self.teacher, device)
        start = None
        if from_levels:
            start = {n: tensor.to(device) for n, tensor in expand_all(quantized).items()}
        super().__init__(student, moved, quantized, config, device, group, start)
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
        network = self._student()
        given = self.model.flow, points.x, points.t, points.condition, kept
        with torch.no_grad():
            target = velocity(self.teacher, *given)
        return velocity(network, *given), target  # type: ignore[arg-type]

    def _compare(self) -> tuple[Tensor, Tensor]:
        points, share = self.draw(self.config.batch), self._group.share
        kept = self._draws.kept(len(points.t), self.condition_dropout)
        own = Points(share(points.x), share(points.t), share(points.condition))
        return self._velocities(own, None if kept is None else share(kept))

    @torch.no_grad()
    def velocity_error(self, points: Points, batch: int = 512) -> float:
        """E‖v_q − v_full‖² ÷ E‖v_full‖² at some points."""
        squares = total = 0.0
        for part in points.split(batch):
            found, target = self._velocities(part)
            squares += (found - target).square().sum().item()
            total += target.square().sum().item()
        return squares / total
