"""From noise to images: a network's flow integrated, on a GPU by replaying one captured step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from flowquant.config.model import FlowConfig
from flowquant.config.sampling import SolverConfig
from flowquant.models.path import guided_velocity
from flowquant.models.solver import STEPS, Velocity, solve, start_times
from flowquant.quantization.packed_network import take_turns
from flowquant.runtime.cuda_graph import capture_if_possible
from flowquant.runtime.device import has_fp8, sampling_dtype

if TYPE_CHECKING:
    from flowquant.models.fp8 import InFp8


class Sampler:
    """A network ready to integrate batches of one size on one device.

    On a GPU the network computes in the configured precision, the state stays float32, and one
    solver step is captured as a CUDA graph: a replay costs one launch and no synchronisation.
    ``evaluations`` is how often the last batch's velocity was evaluated; under guidance an
    evaluation is one pass of the network with twice the batch. With ``fp8`` the first batch tells
    how large activations become, and the last steps are in bfloat16.
    """

    def __init__(
        self, network: nn.Module, flow: FlowConfig, config: SolverConfig, device: torch.device
    ) -> None:
        self.flow, self.config, self.device = flow, config, device
        self.network = network.to(device)
        dtype = sampling_dtype(device, config.precision)
        if dtype == torch.bfloat16:
            self.network.cast(dtype)  # type: ignore[operator]
        if dtype == torch.bfloat16 and device.type == "cuda":
            from flowquant.models.fused import fuse

            fuse(self.network)
            take_turns(self.network)
        self._uncalibrated = config.precision == "fp8" and has_fp8(device)
        self._fp8: InFp8 | None = None
        # Of each step, in order.
        self._graphs: Sequence[torch.cuda.CUDAGraph] = ()
        # Whether kernels are launched one by one, not replayed.
        self._launched = device.type == "cpu" or config.solver == "dopri5"
        self._x = self._condition = self._index = self._times = torch.empty(0)
        self.evaluations = 0

    @torch.inference_mode()
    def __call__(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Integrate noise [B, C, H, W] under classes [B] or attributes [B, A] to images."""
        noise, condition = noise.to(self.device), condition.to(self.device)
        if self._uncalibrated:
            from flowquant.sampling.fp8 import use_fp8

            self._fp8 = use_fp8(self.network, self._velocity, noise, condition)
            self._uncalibrated = False
        if not self._launched and (not self._graphs or self._x.shape != noise.shape):
            self._capture(noise, condition)
            self._launched = not self._graphs
        return (self._launch if self._launched else self._replay)(noise, condition)

    # The count is made in inference, and counts anew from here.
    @torch.inference_mode()
    def warn(self) -> None:
        """Say what FP8 had no room for in the last batch, which a GPU completes first."""
        if self._fp8 is not None:
            from flowquant.sampling.fp8 import warn_of_saturation

            warn_of_saturation(self._fp8.saturated)

    def _launch(self, noise: Tensor, condition: Tensor) -> Tensor:
        """The ends, kernel by kernel."""
        velocity = self._velocity(condition)
        if self._fp8 is not None:
            from flowquant.sampling.fp8 import late_in_bfloat16

            velocity = late_in_bfloat16(velocity, self._fp8)
        images, self.evaluations = solve(
            velocity,
            noise,
            self.config.solver,
            self.config.steps,
            self.config.tolerance,
        )
        return images

    def _replay(self, noise: Tensor, condition: Tensor) -> Tensor:
        """The ends, by the captured step."""
        self._x.copy_(noise)
        self._condition.copy_(condition)
        self._index.zero_()
        for graph in self._graphs:
            graph.replay()
        self.evaluations = self.config.steps * STEPS[self.config.solver][1]
        return self._x.clone()

    def _velocity(self, condition: Tensor) -> Velocity:
        """v(x, t) under guidance, for this condition."""
        return lambda x, t: guided_velocity(
            self.network, self.flow, x, t, condition, self.config.guidance
        )

    def _capture(self, noise: Tensor, condition: Tensor) -> None:
        """Capture a solver step, and a late one where it differs, on tensors of these shapes.

        A replay moves the state ``_x`` [B, C, H, W] under ``_condition`` [B] or [B, A] from the
        time ``_times[_index]`` to the next and increments ``_index``, int64 [1], past the last
        step back to 0. ``_times`` is float32 [steps].
        """
        self._graphs = ()
        self._x, self._condition = noise.clone(), condition.clone()
        self._index = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._times = start_times(self.config.steps, self.device)
        velocity, (step, _) = self._velocity(self._condition), STEPS[self.config.solver]

        def advance() -> None:
            t = self._times.index_select(0, self._index)
            self._x.copy_(step(velocity, self._x, t, 1 / self.config.steps))
            self._index.add_(1).remainder_(self.config.steps)

        steps = self.config.steps
        graphs = [capture_if_possible(advance)] * steps
        if self._fp8 is not None:
            from flowquant.sampling.fp8 import late_steps

            if late := late_steps(steps):
                with self._fp8.off():
                    graphs[-late:] = [capture_if_possible(advance)] * late
        captured = [graph for graph in graphs if graph is not None]
        self._graphs = captured if len(captured) == steps else ()
