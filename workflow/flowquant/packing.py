"""Bit packing: small unsigned integers, side by side across bytes, least significant bit first."""

from __future__ import annotations

import torch
from torch import Tensor


def pack(values: Tensor, bits: int) -> Tensor:
    """Pack integers below 2^bits: value i fills bits i·bits … (i+1)·bits − 1 of the stream.

    Bit j of the stream is bit j mod 8 of byte j div 8; the last byte is filled up with zeros.

    Args:
        values: Integers 0 ≤ v < 2^bits, any shape, n in all.
        bits: Width, 1…16.

    Returns:
        uint8 [⌈n·bits / 8⌉] on the same device.
    """
    n = values.numel()
    padded = torch.zeros(-(-n // 8) * 8, dtype=torch.int32, device=values.device)
    padded[:n] = values.flatten()
    stream = (padded[:, None] >> torch.arange(bits, device=values.device)).bitwise_and_(1)
    weights = 1 << torch.arange(8, dtype=torch.int32, device=values.device)
    packed = (stream.view(-1, 8) * weights).sum(dim=1).to(torch.uint8)
    return packed[: -(-n * bits // 8)]


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The inverse of `pack`: ``count`` integers of ``bits`` bits, int32 [count]."""
    padded = torch.zeros(-(-count // 8) * bits, dtype=torch.int32, device=packed.device)
    padded[: len(packed)] = packed
    stream = (padded[:, None] >> torch.arange(8, device=packed.device)).bitwise_and_(1)
    weights = 1 << torch.arange(bits, dtype=torch.int32, device=packed.device)
    return (stream.view(-1, bits) * weights).sum(dim=1, dtype=torch.int32)[:count]
