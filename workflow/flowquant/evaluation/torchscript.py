"""The tensors of a TorchScript file, read without its code.

``torch.jit.load`` compiles and may run what a file brings. A file is a zip archive, in which
``data.pkl`` says which tensors the modules have, and ``data/`` holds their bytes: here modules
become plain objects, and nothing is made but these and tensors.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "ByteStorage": torch.uint8,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Whether a file is TorchScript, not a state dict."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """All tensors that modules hold, by the names of a state dict.

    Raises:
        pickle.UnpicklingError: if the file would make anything else.
        zipfile.BadZipFile, KeyError: if it is no whole TorchScript.
    """
    with zipfile.ZipFile(path) as archive:
        (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        top = _Reader(archive, pickled.removesuffix(".pkl")).load()
    return dict(_tensors(top, ""))


class _Module:
    """What stands for a module: its attributes."""


class _Reader(pickle.Unpickler):
    """Unpickles modules as `_Module`, and tensors."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}.pkl")))
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle":  # lists of plain values
            return list
        raise pickle.UnpicklingError(f"{module}.{name} in {self.folder}.pkl")

    def persistent_load(self, said: Any) -> Tensor:
        """A storage: ``("storage", dtype, key, device, values)``."""
        _, dtype, key, *_ = said
        content = bytearray(self.archive.read(f"{self.folder}/{int(key)}"))
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)


def _tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    return storage.as_strided(size, stride, offset)


def _tensors(module: _Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
