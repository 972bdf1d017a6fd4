"""Images from any velocity network: ``flowquant.sample``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from flowquant.config.messages import explain_arguments
from flowquant.config.model import FlowConfig, ModelConfig
from flowquant.config.sampling import BATCH, SolverConfig, SolverName
from flowquant.data.pixels import to_uint8
from flowquant.models.calls import Call
from flowquant.quantization.record import record_of
from flowquant.runtime.device import HALVES
from flowquant.runtime.errors import UserError
from flowquant.runtime.names import SamplingPrecision
from flowquant.sampling.foreign import ForeignNetwork, caller, device_of
from flowquant.sampling.generate import integrate


def _usual(module: Callable[..., Any], x: Tensor, t: Tensor, y: Any) -> Any:
    return module(x, t) if y is None else module(x, t, y)


def sample(
    model: nn.Module,
    labels: Tensor | Sequence[int] | int,
    *,
    steps: int = 100,
    seed: int = 0,
    solver: SolverName = "euler",
    tolerance: float = 1e-5,
    guidance: float = 1.0,
    shape: Sequence[int] | None = None,
    clock: str | None = None,
    time_scale: int | None = None,
    sigma: float | None = None,
    call: Call | str | None = None,
    pixels: bool = True,
    batch: int = BATCH,
    precision: SamplingPrecision = "auto",
) -> Tensor:
    """Integrate dx/dt = model(x, t, y) from noise at t = 0 to images at t = 1.

    Image i depends on the seed, i and its label alone, however many are sampled at a time. The
    model computes where it lies, in evaluation mode, and is left as it was.

    Args:
        model: A network that `flowquant.load` built, which says what it takes; or any module.
        labels: Classes [N], attributes [N, A], or whatever else ``call`` hands on; or a number of
            images: classes then take turns, and a module of yours gets no labels.
        steps: Equal steps; not for ``dopri5``.
        seed: Of the noise.
        solver: ``euler``, ``midpoint``, ``heun``, or ``dopri5`` with its own steps.
        tolerance: Of ``dopri5``.
        guidance: Scale of classifier-free guidance, for networks of this package; 1 is none.
        shape: Of one image or state, such as (3, 32, 32); needed for a module of yours.
        clock: Time as the network is given it: t (``forward``, the default) or 1 − t
            (``backward``).
        time_scale: What that is multiplied by: 1, or 1000.
        sigma: Standard deviation of the noise, 1 by default.
        call: How a module of yours is called: as Python writes it, of x [B, …], t [B] and y [B],
            which is None without labels, such as ``"t, x, y"`` or ``"sample=x, timestep=t"``; or a
            function of the module, x, t and y. By default ``x, t``, and ``y`` if there are labels.
        pixels: Whether −1…1 become uint8; otherwise ends are float32 as they are.
        batch: Images at a time.
        precision: ``auto`` is bfloat16 on a GPU and float32 on a CPU. A CPU computes in bfloat16 if
            it is asked and has instructions for it.

    Returns:
        Images uint8, or with ``pixels=False`` states float32, [N, *shape], on the CPU.

    Raises:
        UserError: if an argument is none of these, or pixels are not finite.

    >>> import flowquant, torch
    >>> class Straight(torch.nn.Module):
    ...     def forward(self, x, t):
    ...         return torch.ones_like(x) - 0 * t.view(-1, 1, 1, 1)
    >>> images = flowquant.sample(Straight(), 4, shape=(1, 8, 8), steps=10, seed=1)
    >>> images.shape, images.dtype
    (torch.Size([4, 1, 8, 8]), torch.uint8)
    """
    known = record_of(model).model
    given = {"clock": clock, "time_scale": time_scale, "sigma": sigma, "call": call}
    flow = _flow(known, {key: value for key, value in given.items() if value is not None})
    try:
        settings = SolverConfig(
            steps=steps, solver=solver, tolerance=tolerance, guidance=guidance, precision=precision
        )
    except ValidationError as error:
        raise explain_arguments(error) from None
    wanted = _labels(labels, known)
    size = _shape(shape, known)
    if guidance != 1 and known is None:
        raise UserError(
            "guidance",
            found=f"{guidance:g} for a module of yours",
            expected="1: how to withhold the condition is known of this package's networks alone",
            remedy="Guide in `call`: evaluate with and without a label, and combine.",
        )
    device = device_of(model)
    if known is None:
        network: nn.Module = ForeignNetwork(
            model, _usual if call is None else caller(call), not isinstance(labels, int)
        )
    else:
        # Its layers may be cast and fused: in a copy.
        own = device.type == "cuda" or precision in HALVES
        network = deepcopy(model) if own else model
    with evaluated(network):
        finish = to_uint8 if pixels else torch.Tensor.float
        return integrate(network, flow, size, wanted, settings, seed, batch, device, finish=finish)[
            0
        ]


def _flow(known: ModelConfig | None, given: dict[str, Any]) -> FlowConfig:
    if known is not None and not given:
        return known.flow
    if known is not None:
        raise UserError(
            ", ".join(given),
            found="what the network says of itself",
            expected="nothing, for a network of this package",
            remedy="Leave them out.",
        )
    flow: dict[str, Any] = {"clock": "forward", "sigma": 1.0} | given
    flow.pop("call", None)
    try:
        return FlowConfig(**flow)
    except ValidationError as error:
        raise explain_arguments(error) from None


def _shape(shape: Sequence[int] | None, known: ModelConfig | None) -> tuple[int, ...]:
    if known is not None:
        image = known.image
        shape = shape or (image.channels, image.size, image.size)
    if shape is None or not all(isinstance(size, int) and size > 0 for size in shape):
        raise UserError(
            "shape",
            found="nothing" if shape is None else str(shape),
            expected="the shape of one image, such as (3, 32, 32)",
            remedy="Say `shape=`: a module does not tell what it takes.",
        )
    return tuple(shape)


def _labels(labels: Tensor | Sequence[int] | int, known: ModelConfig | None) -> Tensor:
    """Labels [N] or [N, A]."""
    if isinstance(labels, int):
        if labels > 0 and known is not None:
            if known.condition.kind == "class":
                return torch.arange(labels) % known.condition.count
            return torch.zeros(labels, known.condition.count, dtype=torch.uint8)
        found = torch.zeros(max(0, labels), dtype=torch.int64)
    else:
        found = torch.as_tensor(labels)
    if not found.dim() or not len(found):
        raise UserError(
            "labels",
            found="none",
            expected="a label for each image, or how many images",
            remedy="Ask for one image at least.",
        )
    if known is not None and known.condition.kind == "class":
        count = known.condition.count
        if found.is_floating_point() or int(found.min()) < 0 or int(found.max()) >= count:
            raise UserError(
                "labels",
                found=f"{found.min()} to {found.max()}",
                expected=f"classes 0 to {count - 1}",
                remedy="Number classes from 0.",
            )
    return found


@contextmanager
def evaluated(network: nn.Module) -> Iterator[None]:
    """Evaluation mode in the block; afterwards each module's own."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
