"""Bit packing against Python's integers."""

import pytest
import torch

from flowquant.quantization.packing import pack, packed_bytes, take_rows, unpack


def oracle(values: list[int], bits: int) -> bytes:
    stream = sum(value << (index * bits) for index, value in enumerate(values))
    return stream.to_bytes(packed_bytes(len(values), bits), "little")


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 63, 1001])
def test_packing_is_a_bit_stream_and_is_undone(bits: int, count: int) -> None:
    values = torch.randint(2**bits, (count,), generator=torch.Generator().manual_seed(count))
    values[0] = 2**bits - 1
    packed = pack(values, bits)
    assert packed.dtype == torch.uint8
    assert bytes(packed.tolist()) == oracle(values.tolist(), bits)
    assert unpack(packed, bits, count).tolist() == values.tolist()


def test_shape_does_not_matter() -> None:
    values = torch.arange(12).view(3, 4)
    assert pack(values, 4).equal(pack(values.flatten(), 4))


@pytest.mark.parametrize("kind", [torch.uint8, torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 16])
def test_rows_of_a_table(kind: torch.dtype, count: int) -> None:
    table = torch.randint(256, (7, count), dtype=torch.uint8).to(kind)
    index = torch.tensor([6, 0, 0, 3, 5], dtype=torch.int32)
    # A column among others: not contiguous.
    for given in (table, table.repeat(1, 2)[:, count:]):
        found = take_rows(given, index)
        assert found.dtype == kind
        assert torch.equal(found, table[index.long()])
