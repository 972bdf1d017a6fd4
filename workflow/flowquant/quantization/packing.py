"""Bit packing: small unsigned integers, side by side across bytes, least significant bit first."""

from collections.abc import Iterator

import torch
from torch import Tensor


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that ``count`` integers of ``bits`` bits take: ⌈count·bits / 8⌉."""
    return -(-count * bits // 8)


def pack(values: Tensor, bits: int) -> Tensor:
    """Pack integers 0 ≤ v < 2^bits, any shape, n in all: uint8 [⌈n·bits / 8⌉], bits 1…16.

    Value i fills bits i·bits … (i+1)·bits − 1 of the stream. Bit j of the stream is bit j mod 8 of
    byte j div 8; the last byte is filled up with zeros.
    """
    n = values.numel()
    # Up to 8 bits a byte is wide enough to shift in: what leaves it belongs to another byte.
    kind = torch.uint8 if bits <= 8 else torch.int32
    if bits == 8:
        return values.flatten().to(kind)
    # Eight values fill whole bytes, as many as a value has bits.
    eights = torch.zeros(-(-n // 8) * 8, dtype=kind, device=values.device)
    eights[:n] = values.flatten()
    eights = eights.view(-1, 8)
    packed = torch.zeros(len(eights), bits, dtype=kind, device=values.device)
    for value, byte, shift in _overlaps(bits):
        part = eights[:, value]
        packed[:, byte] |= part << shift if shift >= 0 else part >> -shift
    return packed.bitwise_and_(255).to(torch.uint8).flatten()[: packed_bytes(n, bits)]


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """The inverse of `pack`: ``count`` integers of ``bits`` bits, int32 [count]."""
    mask = (1 << bits) - 1
    if 8 % bits == 0:
        # No value crosses bytes: all of a byte's at once.
        shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
        values = (packed[:, None] >> shifts).bitwise_and_(mask)
        return values.flatten()[:count].to(torch.int32)
    groups = -(-count // 8)
    if len(packed) < groups * bits:
        packed = torch.nn.functional.pad(packed, (0, groups * bits - len(packed)))
    kind = torch.uint8 if bits < 8 else torch.int32
    stored = packed.view(-1, bits).to(kind)
    values = torch.zeros(groups, 8, dtype=kind, device=packed.device)
    for value, byte, shift in _overlaps(bits):
        part = stored[:, byte]
        values[:, value] |= part >> shift if shift >= 0 else part << -shift
    return values.bitwise_and_(mask).flatten()[:count].to(torch.int32)


def _overlaps(bits: int) -> Iterator[tuple[int, int, int]]:
    """Of eight values: (value, byte, left shift that brings the value's bits to the byte's)."""
    for value in range(8):
        start = value * bits
        for byte in range(start // 8, (start + bits - 1) // 8 + 1):
            yield value, byte, start - 8 * byte
