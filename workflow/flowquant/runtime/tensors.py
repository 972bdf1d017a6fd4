"""Named tensors with metadata, as safetensors files."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from flowquant.runtime.errors import UserError
from flowquant.runtime.files import atomic

# The entry of a safetensors header under which our metadata lies, as JSON.
_METADATA_KEY = "flowquant"


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write named tensors and JSON-able metadata as one safetensors file."""
    from safetensors.torch import save_file

    with atomic(path) as temporary:
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            metadata=packed_metadata(metadata),
        )


def packed_metadata(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Metadata as the one entry of a safetensors header that holds it."""
    return {_METADATA_KEY: json.dumps(metadata, sort_keys=True, separators=(",", ":"))}


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a safetensors file: its tensors (memory-mapped, on the CPU) and its metadata.

    Raises:
        UserError: if the file is missing, truncated or not safetensors.
    """
    with _open(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _metadata(file)  # noqa: SIM118


def read_metadata(path: Path) -> dict[str, Any]:
    """Read a safetensors file's metadata; raises as `read_tensors` does."""
    with _open(path) as file:
        return _metadata(file)


@contextmanager
def _open(path: Path) -> Iterator[Any]:
    """An open safetensors file; whatever is wrong with it becomes a `UserError`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(
            path,
            found=f"an unreadable file ({error})",
            expected="a whole safetensors file",
            remedy="If the workflow made it, delete it and run again; if it is yours, check the "
            "path and copy the file anew.",
        ) from error


def _metadata(file: Any) -> dict[str, Any]:
    """What `packed_metadata` packed; empty for a file that others wrote."""
    content: dict[str, Any] = json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
    return content
