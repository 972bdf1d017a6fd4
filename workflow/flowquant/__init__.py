"""Weight quantization for flow-matching models: a package for each layer, a stage for each rule.

From Python it is five functions, each imported, and torch with it, when it is first asked for:

>>> import flowquant, torch
>>> model = torch.nn.Sequential(torch.nn.Linear(2, 64), torch.nn.SiLU(), torch.nn.Linear(64, 2))
>>> small = flowquant.quantize(model, bits=2)
>>> points = lambda count: (torch.randn(count, 2),)
>>> small = flowquant.refine(small, model, points, steps=20)
>>> flowquant.save(small, "model.safetensors")
>>> same = flowquant.load("model.safetensors", into=model)
>>> same is model and torch.equal(model(torch.ones(2)), small(torch.ones(2)))
True
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowquant.quantization.module import quantize as quantize
    from flowquant.quantization.saved import load as load
    from flowquant.quantization.saved import save as save
    from flowquant.sampling.sample import sample as sample
    from flowquant.training.refine import refine as refine

# Here, because this file alone is no part of what makes a job stale (`runtime/digest.py`).
__version__ = "0.9.0"

# Where each name lies: nothing is imported before it is asked for.
_ROOMS = {
    "quantize": "quantization.module",
    "refine": "training.refine",
    "save": "quantization.saved",
    "load": "quantization.saved",
    "sample": "sampling.sample",
}
__all__ = ["load", "quantize", "refine", "sample", "save"]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'flowquant' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f"flowquant.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
