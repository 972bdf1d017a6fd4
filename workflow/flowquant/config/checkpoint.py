"""A published checkpoint: where it lies, in how many files, and which of its weights are meant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from flowquant.config.fields import READS, Words, section
from flowquant.runtime.errors import UserError
from flowquant.runtime.files import read_json

INDEX = ".safetensors.index.json"


@section
class CheckpointConfig:
    """A published checkpoint to import in place of training (docs/howto/checkpoint.md)."""

    path: Words
    """``.pt``, ``.pth`` or ``.safetensors``; of weights in several files, their index or folder."""

    weights: Words | None = None
    """Which weights, where there are several: the name that they lie under, such as ``ema`` or
    ``net_model``; ``null``: the moving average if there is one."""


def _path_alone(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


def _schema(schema: dict[str, Any]) -> None:
    schema["anyOf"].insert(0, {"type": "string", "minLength": 1})
    schema[READS] = "a path, or a mapping"


Checkpoint = Annotated[
    CheckpointConfig | None, BeforeValidator(_path_alone), Field(json_schema_extra=_schema)
]


def checkpoint_files(path: Path) -> list[Path]:
    """The files of a checkpoint: itself, or the index of several and these.

    Raises:
        UserError: if it is a folder without weights in safetensors files, or its index is no index.
    """
    if path.is_dir():
        found = sorted(path.glob(f"*{INDEX}")) or sorted(path.glob("*.safetensors"))
        if len(found) != 1:
            raise UserError(
                path,
                found=f"a folder with {len(found)} such files",
                expected=f"one that ends in {INDEX}, or in .safetensors",
                remedy="Name the file: a path in place of the folder's.",
            )
        path = found[0]
    if not path.name.endswith(INDEX):
        return [path]
    index = read_json(path, dict[str, Any])
    shards = index.get("weight_map")
    names = sorted(set(map(str, shards.values()))) if isinstance(shards, dict) else []
    if not names or any(Path(name).name != name for name in names):
        raise UserError(
            path,
            found="no `weight_map` from names of weights to files beside it",
            expected="an index of weights, as diffusers writes it",
            remedy="Copy the checkpoint anew, or name another file.",
        )
    return [path, *(path.parent / name for name in names)]
