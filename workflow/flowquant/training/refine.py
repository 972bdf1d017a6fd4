"""Any quantized module trained to compute what the original does: ``flowquant.refine``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, Literal, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from tqdm import tqdm

from flowquant.config.messages import explain_arguments
from flowquant.config.refinement import RefineConfig
from flowquant.models.calls import Call, tensor_of
from flowquant.quantization.apply import DTYPES
from flowquant.quantization.codebook import Codebook
from flowquant.quantization.module import fill, refuse_unusable
from flowquant.quantization.packed_file import PackedTensor
from flowquant.quantization.record import Record, attach, quantized_record
from flowquant.runtime import random
from flowquant.runtime.device import compute_dtype
from flowquant.runtime.errors import UserError, some
from flowquant.runtime.names import Precision
from flowquant.sampling.foreign import autocast, caller, device_of, float_type
from flowquant.training.matching import Matching

Module = TypeVar("Module", bound=nn.Module)
# What a module is called with: positional arguments, named ones, or a single one.
Inputs = Sequence[Any] | Mapping[str, Any] | Tensor
Source = Callable[[int], Inputs] | Inputs | Iterable[Inputs]


def refine(
    small: Module,
    model: nn.Module,
    points: Source,
    *,
    steps: int,
    call: Call | str | None = None,
    batch: int = 256,
    learning_rate: float = 3e-4,
    assignments: Literal["fixed", "trained"] = "trained",
    value_learning_rate: float = 2e-4,
    damping: float = 1e-3,
    price: float = 0,
    rounds: int = 0,
    precision: Precision = "bfloat16",
    seed: int = 0,
) -> Module:
    """A copy of a quantized module whose output is closer to the original's, of the same size.

    Minimises the mean squared difference of the two outputs over levels, over which level each
    value takes (``assignments="trained"``), and over those parameters that stayed float and want
    gradients. Both modules compute in evaluation mode, where ``small`` lies, and are left as they
    were. On a GPU a step is one CUDA graph, where the module allows that.

    Args:
        small: What `flowquant.quantize` or `flowquant.load` returned.
        model: The module it was quantized from.
        points: What the modules are called with. A function of a number of rows to arguments; or
            arguments themselves, tensors of N rows of which ``batch`` are drawn with replacement a
            step; or an iterable of arguments, such as a data loader, begun anew when it ends.
            Arguments are a tuple, a mapping of names, or one tensor. For a flow: states x_t on the
            way from noise to data, times t, labels.
        steps: Steps of Adam; 3,000 help, 30,000 at 2 bits come close to the original.
        call: How the modules are called where points are x, t and perhaps y, by place or name, and
            the modules take them in another way: what `flowquant.sample` takes. Times are those
            that the modules are to be given.
        batch: Rows a step.
        learning_rate: Of levels and parameters that stayed float: peak of a one-cycle schedule.
        assignments: ``fixed``: each value keeps its level; ``trained``: it may take another.
        value_learning_rate: With ``trained``: the values' peak.
        damping: With ``trained``: share of the way to its level that each value moves at the last
            step.
        price: With ``trained`` and ``coding="ans"``: what the loss rises by for a bit a value.
        rounds: With ``fixed``: times that values are assigned anew.
        precision: On a GPU, by autocast; CPUs compute in float32.
        seed: Of what is drawn.

    Raises:
        UserError: if ``small`` is not quantized or ``model`` is another module, an argument is none
            of these, or the loss is no longer finite.

    >>> import flowquant, torch
    >>> layer = torch.nn.Linear
    >>> model = torch.nn.Sequential(layer(16, 64), torch.nn.ReLU(), layer(64, 16))
    >>> x = torch.randn(512, 16)
    >>> small = flowquant.quantize(model, bits=2)
    >>> refined = flowquant.refine(small, model, (x,), steps=200, learning_rate=0.01)
    >>> bool((refined(x) - model(x)).norm() < (small(x) - model(x)).norm())
    True
    """
    try:
        config = RefineConfig(
            steps=steps,
            batch=batch,
            learning_rate=learning_rate,
            assignments=assignments,
            value_learning_rate=value_learning_rate,
            damping=damping,
            price=price,
            rounds=rounds,
            precision=precision,
            seed=seed,
        )
    except ValidationError as error:
        raise explain_arguments(error) from None
    record = quantized_record(small)
    originals = dict(model.named_parameters(remove_duplicate=False))
    parameters = dict(small.named_parameters())
    if differing := [
        name
        for name, parameter in parameters.items()
        if name not in originals or originals[name].shape != parameter.shape
    ]:
        raise UserError(
            "model",
            found=f"other weights than the quantized module's: {some(differing)}",
            expected="the module that it was quantized from",
            remedy="Give the original.",
        )
    refuse_unusable("model", originals)
    device = device_of(small)
    # What is drawn follows from the seed; the caller's generators are left as they were.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        job = ModuleRefinement(small, model, record, points, config, device, call)
        with tqdm(total=steps, unit="step", desc="refining", mininterval=1.0, disable=None) as bar:
            job.run(bar, lambda: None)
    contents = job.result()
    refined = deepcopy(small)
    fill(refined, contents)
    packed = {n: PackedTensor.of(c) for n, c in contents.items() if isinstance(c, Codebook)}
    settings = {name: getattr(config, name) for name in _SAID}
    attach(refined, Record(packed, {**record.about, "refine": settings}, record.model))
    return refined


# What a file tells of how it was refined.
_SAID = (
    *("steps", "batch", "learning_rate", "assignments", "value_learning_rate", "damping"),
    *("price", "rounds", "precision", "seed"),
)


class ModuleRefinement(Matching):
    """A refinement of any module, at inputs that its caller gives."""

    remedy = "Lower `learning_rate` or `value_learning_rate`, and see that `points` are finite."

    def __init__(
        self,
        small: nn.Module,
        model: nn.Module,
        record: Record,
        points: Source,
        config: RefineConfig,
        device: torch.device,
        call: Call | str | None = None,
    ) -> None:
        self._call = _as_points_say if call is None else _by(caller(call))
        self.teacher = deepcopy(model).to(device).eval().requires_grad_(False)
        full = {n: p.float() for n, p in self.teacher.named_parameters(remove_duplicate=False)}
        narrow = DTYPES[record.about["method"]["float_dtype"]]
        contents: dict[str, Codebook | Tensor] = {n: p.unpack() for n, p in record.packed.items()}
        contents |= {
            name: p.detach().to(narrow) if p.element_size() > narrow.itemsize else p.detach()
            for name, p in small.named_parameters()
            if name not in contents and p.is_floating_point() and p.requires_grad
        }
        super().__init__(deepcopy(small).eval(), full, contents, config, device)
        kind = float_type(small)
        self._dtype = compute_dtype(device, config.precision) if kind == torch.float32 else kind
        self._draw = drawn(points, config.batch)
        self._inputs: Any = None

    def step(self) -> None:
        """A step on inputs that are drawn here, outside of what a GPU replays."""
        torch.manual_seed(random.key(self.config.seed, "refine points", self.steps_done))
        fresh = _moved(self._draw(), self.device)
        if self._inputs is None or not _copied(self._inputs, fresh):
            # A graph reads its inputs where they were when it was captured.
            self._launched = self._launched or self._inputs is not None
            self._inputs, self._graph = fresh, None
        super().step()

    def _compare(self) -> tuple[Tensor, Tensor]:
        student = self._student()
        with autocast(self.device, self._dtype):
            with torch.no_grad():
                target = tensor_of(self._call(self.teacher, self._inputs))
            found = tensor_of(self._call(student, self._inputs))
        return found.float(), target.float()


def drawn(points: Source, count: int) -> Callable[[], Inputs]:
    """A function that gives fresh arguments each time it is called.

    Raises:
        UserError: if there are no points, or tensors of several lengths.
    """
    if callable(points):
        return lambda: points(count)
    if isinstance(points, Tensor):
        return drawn((points,), count)
    if isinstance(points, Mapping | tuple):
        parts = list(points.values() if isinstance(points, Mapping) else points)
        lengths = {len(part) if isinstance(part, Tensor) and part.dim() else 0 for part in parts}
        if len(lengths) != 1 or lengths == {0}:
            raise _no_points(f"tensors of {some(sorted(lengths)) or 'no'} rows")
        (total,) = lengths

        def rows() -> Inputs:
            chosen = torch.randint(total, (count,))
            taken = [part[chosen.to(part.device)] for part in parts]
            return dict(zip(points, taken, strict=True)) if isinstance(points, Mapping) else taken

        return rows
    return _again_and_again(points).__next__


def _again_and_again(points: Iterable[Inputs]) -> Iterator[Inputs]:
    while True:
        some_left = False
        for inputs in points:
            some_left = True
            yield inputs
        if not some_left:
            raise _no_points("none, or an iterator that ended")


def _no_points(found: str) -> UserError:
    return UserError(
        "points",
        found=found,
        expected="tensors of as many rows each, a function of a number, or an iterable that can be "
        "gone through again",
        remedy="help(flowquant.refine) says what points may be.",
    )


def _as_points_say(network: Callable[..., Any], inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return network(**inputs)
    return network(*inputs)


def _by(call: Call) -> Callable[[Callable[..., Any], Any], Any]:
    def called(network: Callable[..., Any], inputs: Any) -> Any:
        given = dict(inputs if isinstance(inputs, Mapping) else zip("xty", inputs, strict=False))
        if len(given) != len(inputs) or not {"x", "t"} <= given.keys() <= {"x", "t", "y"}:
            raise UserError(
                "points",
                found=some(inputs) if isinstance(inputs, Mapping) else f"{len(inputs)} inputs",
                expected="x, t and perhaps y, which `call` hands on",
                remedy="Give these, or leave `call` out and give what the modules take.",
            )
        return call(network, given["x"], given["t"], given.get("y"))

    return called


def _moved(inputs: Inputs, device: torch.device) -> Any:
    if isinstance(inputs, Mapping):
        return {name: _one(part, device) for name, part in inputs.items()}
    parts = (inputs,) if isinstance(inputs, Tensor) else inputs
    return [_one(part, device) for part in parts]


def _one(part: Any, device: torch.device) -> Any:
    # A copy: what the caller holds may change while a graph is replayed.
    return part.to(device, copy=True) if isinstance(part, Tensor) else part


def _copied(held: Any, fresh: Any) -> bool:
    """Copy fresh inputs into held ones, if they are alike."""
    if isinstance(held, Mapping) != isinstance(fresh, Mapping) or len(held) != len(fresh):
        return False
    if isinstance(held, Mapping):
        if held.keys() != fresh.keys():
            return False
        held, fresh = list(held.values()), [fresh[name] for name in held]
    pairs = list(zip(held, fresh, strict=True))
    alike = all(
        (a.shape, a.dtype) == (b.shape, b.dtype)
        if isinstance(a, Tensor) and isinstance(b, Tensor)
        else a is b or a == b
        for a, b in pairs
    )
    if alike:
        for a, b in pairs:
            if isinstance(a, Tensor):
                a.copy_(b)
    return alike
