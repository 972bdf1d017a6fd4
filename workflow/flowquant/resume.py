"""The state of an unfinished run, kept so that a killed run can go on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from flowquant.artifacts import atomic


def identity(*parts: object) -> str:
    """A digest of all that makes a run the same run; JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def save_state(path: Path, name: str, state: dict[str, Any]) -> None:
    """Keep a run's state (tensors, numbers and strings) under the run's identity ``name``."""
    with atomic(path) as temporary:
        torch.save({"identity": name, **state}, temporary)


def load_state(path: Path, name: str, device: torch.device) -> dict[str, Any] | None:
    """The state of the run ``name``, or nothing if there is none or it is another run's."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state if state.pop("identity") == name else None
