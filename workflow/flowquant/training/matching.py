"""Training quantized weights so that one network computes what another does."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from tqdm import tqdm

from flowquant.config.refinement import RefineConfig
from flowquant.quantization.codebook import Codebook
from flowquant.training.distributed import Draws, Group
from flowquant.training.optimization import Optimization, one_cycle
from flowquant.training.trainable import TrainableLevels

# So many steps make a row of the curve: reading their loss waits for the GPU.
LOG_STEPS = 50


class Matching(Optimization):
    """A student with quantized weights on its way to a teacher's outputs, to updated levels.

    What is trained: levels, perhaps which of them each value takes, and of the parameters that
    stayed float those of the student that want gradients.

    Args:
        student: The network whose weights are replaced by those trained; itself it stays as it is.
        full: The weights that were quantized, float32 by name, on the device.
        quantized: Codebooks and parameters that stayed float, by name.
        config: How to train.
        device: Where to compute.
        group: Processes that share each batch; all draw the whole of it.
        start: What trained values start from, by name; the weights that were quantized, if omitted.
    """

    def __init__(
        self,
        student: nn.Module,
        full: Mapping[str, Tensor],
        quantized: Mapping[str, Codebook | Tensor],
        config: RefineConfig,
        device: torch.device,
        group: Group | None = None,
        start: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.student, self.full, self.config = student, full, config
        self._group = group or Group()
        trained = config.assignments == "trained"
        self.trainable = TrainableLevels(quantized, device, (start or full) if trained else None)
        self.dtypes = {n: c.dtype for n, c in quantized.items() if isinstance(c, Tensor)}
        self.floats = {
            # A copy, also where the tensor is float32 on this device already.
            name: quantized[name].detach().to(device, torch.float32, copy=True)  # type: ignore[union-attr]
            for name in self.dtypes
        }
        learned = {name for name, p in self.student.named_parameters() if p.requires_grad}
        floats = [tensor.requires_grad_() for n, tensor in self.floats.items() if n in learned]
        scales = [scales for scales in self.trainable.scales if scales.numel()]
        self._levels = [*self.trainable.tables, *scales]
        groups = [[*self._levels, *floats]]
        self._peaks = [config.learning_rate]
        if self.trainable.values:
            groups.append(self.trainable.values)
            self._peaks.append(config.value_learning_rate)
        self._total = torch.zeros((), device=device)
        self._damping = torch.zeros((), device=device)
        super().__init__(Draws(Group(), device), groups, weight_decay=0, carried=[self._total])
        self.steps_done, self.seconds = 0, 0.0

    @abstractmethod
    def _compare(self) -> tuple[Tensor, Tensor]:
        """What student and teacher put out for this process's share of fresh inputs, alike."""

    def _student(self) -> Callable[..., Any]:
        """The student as a function of its inputs, with the weights as they stand."""
        held = self.trainable.expand() | self.floats
        kinds = {name: p.dtype for name, p in self.student.named_parameters()}
        weights = {name: tensor.to(kinds[name]) for name, tensor in held.items()}

        def network(*inputs: Any, **named: Any) -> Any:
            return functional_call(self.student, weights, inputs, named)

        return network

    def _update(self) -> None:
        """One step on fresh inputs; adds its loss to the total."""
        found, target = self._compare()
        loss = (found - target).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        price = self.config.price
        (loss + price * self.trainable.rate() if price else loss).backward()
        self._total += self._averaged(loss.detach())
        self.optimizer.step()
        self.trainable.damp(self._damping)

    def _averaged(self, loss: Tensor) -> Tensor:
        """The loss of the whole batch; gradients become those of the whole batch, too."""
        if self._group.size == 1:
            return loss
        groups = self.optimizer.param_groups
        gradients = [t.grad for group in groups for t in group["params"] if t.grad is not None]
        # As one vector, for one message.
        whole = torch.cat([*(gradient.flatten() for gradient in gradients), loss[None]])
        self._group.mean_(whole)
        parts = whole[:-1].split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))
        return whole[-1]

    def step(self) -> None:
        """One optimiser step, and before it a reassignment where the rounds say so."""
        step, config = self.steps_done, self.config
        if step in [config.steps * (i + 1) // (config.rounds + 1) for i in range(config.rounds)]:
            share = self.trainable.reassign(self.full)
            if self._group.rank == 0:
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
        try:
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
        finally:
            # NCCL ends only after the graphs that hold its operations.
            self._graph = None

    def result(self) -> dict[str, Codebook | Tensor]:
        """The refined model as it stands, in the types it came in, on the CPU."""
        floats = {n: t.detach().to(self.dtypes[n]).cpu() for n, t in self.floats.items()}
        return {**self.trainable.codebooks(), **floats}

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "levels": [tensor.detach() for tensor in self._levels],
            "values": [tensor.detach() for tensor in self.trainable.values],
            "codes": [tensor.int() for tensor in self.trainable.indices],
            "floats": {name: tensor.detach() for name, tensor in self.floats.items()},
            "step": self.steps_done,
            "seconds": self.seconds,
        }

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        tensors = [*self._levels, *self.trainable.values, *self.trainable.indices]
        kept = [*state["levels"], *state["values"], *state["codes"]]
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)
        for name, tensor in self.floats.items():
            tensor.copy_(state["floats"][name])
        self.steps_done, self.seconds = state["step"], state["seconds"]
