"""Where a stage computes."""

from __future__ import annotations

from typing import Literal

import torch

from flowquant.errors import UserError

DeviceName = Literal["auto", "cuda", "cpu"]


def choose_device(name: DeviceName) -> torch.device:
    """The device to compute on: ``auto`` takes a GPU where there is one.

    Raises:
        UserError: if a GPU is demanded and there is none.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            "device",
            found="'cuda', but PyTorch sees no GPU here",
            expected="a CUDA device",
            remedy="Set `device: auto` or `device: cpu` in the configuration, or run on a node "
            "with a GPU and a CUDA build of PyTorch.",
        )
    return torch.device("cuda")
