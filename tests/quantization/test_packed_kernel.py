"""The kernel that expands packed weights, through Triton's interpreter, against PyTorch's way."""

import pytest
import torch

from flowquant.quantization.packed_file import PackedTensor
from flowquant.quantization.packed_network import PackedWeight
from flowquant.quantization.packing import pack

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for CPUs")
OUT, IN = 40, 72
# Groups of levels, parts with a scale (0 is none), and values an index stands for.
KINDS = [(1, 0, 1), (OUT, 0, 1), (3 * OUT, 0, 1), (1, OUT, 1), (1, 0, 4), (1, OUT, 3), (OUT, 0, 2)]


def weight(
    bits: int, groups: int, parts: int, vector: int, shape: tuple[int, ...] = (OUT, IN)
) -> PackedWeight:
    torch.manual_seed(bits)
    indices = torch.randint(2**bits, (torch.Size(shape).numel() // vector,))
    levels = torch.randn(groups, 2**bits, *([vector] if vector > 1 else [])).half()
    scales = torch.rand(parts).half() if parts else None
    return PackedWeight(PackedTensor(pack(indices, bits), levels, bits, shape, scales=scales))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 8, 9, 11, 15, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_expanded_is_the_weight(bits: int, kind: tuple[int, int, int]) -> None:
    packed = weight(bits, *kind)
    out = torch.full((OUT, IN), torch.nan)
    packed.expand_into(out)
    assert out.equal(packed.expand())


@pytest.mark.parametrize("bits", [1, 3, 8, 11])
@pytest.mark.parametrize("kind", [(7, 0, 1), (1, 7, 3)])
def test_the_last_byte_may_be_full_in_part(bits: int, kind: tuple[int, int, int]) -> None:
    packed = weight(bits, *kind, shape=(7, 9))
    out = torch.full((8, 9), 7.0)
    packed.expand_into(out[:7])
    assert out[:7].equal(packed.expand())
    assert (out[7] == 7).all()


def test_e4m3_is_expanded_times_a_factor(e4m3: None) -> None:
    packed = weight(3, 1, OUT, 1)
    packed.factor = torch.tensor([64.0])
    out = torch.empty(OUT, IN, dtype=torch.float8_e4m3fn)
    packed.expand_into(out)
    assert out.float().equal((packed.expand() * 64).to(torch.float8_e4m3fn).float())
    plain = torch.empty(OUT, IN)
    packed.expand_into(plain)
    assert plain.equal(packed.expand())
