"""Bit packing: small unsigned integers, side by side across bytes, least significant bit first."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Values of so many bytes.
WIDE = {
    1: torch.uint8,
    2: torch.int16,
    4: torch.int32,
    8: torch.int64,
    16: torch.complex128,
}


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


def unpack(packed: Tensor, bits: int, count: int, dtype: torch.dtype = torch.int32) -> Tensor:
    """The inverse of `pack`: ``count`` integers of ``bits`` bits, of ``dtype`` [count]."""
    mask = (1 << bits) - 1
    if 8 % bits == 0:
        table = in_bytes(bits, packed.device).to(torch.uint8)
        return take_rows(table, packed.int()).flatten()[:count].to(dtype)
    groups = -(-count // 8)
    if len(packed) < groups * bits:
        packed = torch.nn.functional.pad(packed, (0, groups * bits - len(packed)))
    kind = torch.uint8 if bits < 8 else torch.int32
    stored = packed.view(-1, bits).to(kind)
    values = torch.zeros(groups, 8, dtype=kind, device=packed.device)
    for value, byte, shift in _overlaps(bits):
        part = stored[:, byte]
        values[:, value] |= part >> shift if shift >= 0 else part << -shift
    return values.bitwise_and_(mask).flatten()[:count].to(dtype)


def in_bytes(bits: int, device: torch.device) -> Tensor:
    """The integers that each byte holds, at 1, 2, 4 or 8 bits: int64 [256, 8 ÷ bits]."""
    shifts = torch.arange(0, 8, bits, device=device)
    return (torch.arange(256, device=device)[:, None] >> shifts) & ((1 << bits) - 1)


def take_rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows [n, m] of a table [K, m], by an index int32 [n].

    Rows of at most 16 bytes are taken as one value each, in a quarter of the time.
    """
    count = table.shape[1]
    wide = WIDE.get(count * table.itemsize)
    if wide is None or torch.compiler.is_compiling():
        return table.index_select(0, index)
    values = table.contiguous().view(wide).flatten()
    return values.index_select(0, index).view(table.dtype).view(-1, count)


def _overlaps(bits: int) -> Iterator[tuple[int, int, int]]:
    """Of eight values: (value, byte, left shift that brings the value's bits to the byte's)."""
    for value in range(8):
        start = value * bits
        for byte in range(start // 8, (start + bits - 1) // 8 + 1):
            yield value, byte, start - 8 * byte
