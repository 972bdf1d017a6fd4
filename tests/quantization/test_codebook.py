"""Codebooks and the packed file: exact round trips, and what a reader refuses."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from flowquant.models.family import FAMILIES
from flowquant.quantization.codebook import (
    Codebook,
    effective_bits,
    group_size,
    stored_bits,
    with_levels,
)
from flowquant.quantization.packed_file import read_quantized, write_quantized
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import content_sha256
from tiny import TINY_MODEL, TINY_NETWORK

# No network has more layers than tensors.
MODEL = replace(TINY_MODEL, network=replace(TINY_NETWORK, layers=1))
METADATA: dict[str, Any] = {
    "model": asdict(MODEL),
    "method": {"levels": "lloyd", "granularity": "row", "scope": "all"},
    "bits": None,
    "source_sha256": "",
    "tensors": {},
}
# The weights of the network that the files of these tests are of.
WEIGHTS: dict[str, tuple[int, ...]] = {}


class AnyWeights(nn.Module):
    """A network whose weights are `WEIGHTS`."""

    def __init__(self, *_: object) -> None:
        super().__init__()
        for name, shape in WEIGHTS.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape)))


@pytest.fixture(autouse=True)
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "transformer", AnyWeights)


def write(path: Path, quantized: dict[str, Codebook | Tensor]) -> None:
    """Write a file of a network with these very weights."""
    WEIGHTS.clear()
    WEIGHTS.update({name: tuple(content.shape) for name, content in quantized.items()})
    write_quantized(path, quantized, METADATA)


def codebook(
    bits: int, groups: int = 3, each: int = 35, dtype: torch.dtype = torch.float32
) -> Codebook:
    draws = torch.Generator().manual_seed(bits)
    levels = torch.randn(groups, 2**bits, generator=draws).sort(dim=1).values.to(dtype)
    indices = torch.randint(2**bits, (groups, each), generator=draws, dtype=torch.int32)
    return Codebook(levels, indices, (groups, each))


def rewrite(
    path: Path, tensors: dict[str, Tensor] | None = None, sign: bool = True, **changes: Any
) -> None:
    """Change tensors or metadata of a file, with or without the digest of the new content."""
    with safe_open(path, framework="pt") as file:
        held = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        metadata = json.loads(file.metadata()["flowquant"])
    held |= tensors or {}
    held = {name: tensor for name, tensor in held.items() if tensor.numel()}
    metadata |= changes
    if sign:
        metadata["content_sha256"] = content_sha256(held, metadata)
    save_file(held, path, metadata={"flowquant": json.dumps(metadata)})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "2bit.safetensors"
    write(path, {"w": codebook(2), "b": torch.randn(5).half()})
    return path


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("bits", range(1, 17))
def test_round_trip_is_exact(bits: int, dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "packed.safetensors"
    book, floats = codebook(bits, dtype=dtype), {"b": torch.randn(4, 3), "h": torch.randn(7).half()}
    given: dict[str, Codebook | Tensor] = {"w": book, **floats}
    write(path, given)
    found, metadata = read_quantized(path)
    assert isinstance(found["w"], Codebook)
    assert found["w"].levels.dtype == dtype
    assert found["w"].indices.equal(book.indices)
    assert found["w"].expand().equal(book.expand())
    for name, tensor in floats.items():
        content = found[name]
        assert isinstance(content, torch.Tensor)
        assert content.dtype == tensor.dtype
        assert content.equal(tensor)
    assert metadata["effective_bits"] == effective_bits(given)


def test_the_file_is_as_small_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "packed.safetensors"
    draws = torch.Generator().manual_seed(0)
    book = Codebook(
        torch.randn(64, 4).half(),
        torch.randint(4, (64, 4096), generator=draws, dtype=torch.int32),
        (64, 4096),
    )
    write(path, {"w": book})
    assert stored_bits({"w": book}) == 2 * 64 * 4096 + 16 * 4 * 64
    assert path.stat().st_size < stored_bits({"w": book}) / 8 + 2048


def test_compact_drops_unused_levels_and_keeps_values() -> None:
    book = Codebook(
        torch.tensor([[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0]]),
        torch.tensor([[3, 0, 3], [2, 2, 2]], dtype=torch.int32),
        (2, 3),
    )
    small = book.compact()
    assert small.levels.shape == (2, 2)
    assert small.bits == 1
    assert small.expand().equal(book.expand())


@pytest.mark.parametrize(
    ("shape", "granularity", "size"),
    [
        ((6, 4), "tensor", 24),
        ((6, 4), "row", 4),
        ((6, 4), "group:2", 2),
        ((6, 4), "group:3", 4),
        ((6, 2, 3, 3), "row", 18),
        ((10,), "row", 10),
        ((10,), "group:5", 5),
    ],
)
def test_group_size(shape: tuple[int, ...], granularity: str, size: int) -> None:
    assert group_size(shape, granularity) == size


def test_levels_beyond_float16_are_refused() -> None:
    book = Codebook(torch.tensor([[1e6]]), torch.zeros(1, 3, dtype=torch.int32), (3,))
    with pytest.raises(OverflowError, match="1e\\+06"):
        with_levels(book, torch.float16)


def test_newer_version_is_refused(file: Path) -> None:
    rewrite(file, version=3)
    with pytest.raises(
        UserError, match=r"format version 3.*expected format version 1 or 2.*Update flowquant"
    ):
        read_quantized(file)


def test_index_past_the_levels_is_refused(file: Path) -> None:
    rewrite(file, {"w.levels": torch.zeros(3, 3)})
    with pytest.raises(UserError, match=r"index 3 in w.*below its 3 levels"):
        read_quantized(file)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"w.indices": torch.zeros(9, dtype=torch.uint8)},
            r"uint8 \[9\] for uint8 \[27\]",
        ),
        ({"w.levels": torch.zeros(2, 4)}, r"levels \[2, 4\] for 105 values"),
        ({"w.levels": torch.zeros(0)}, "missing: w.levels"),
        ({"w.levels": torch.zeros(3, 5)}, r"levels \[3, 5\] for 105 values of 2 bits"),
        ({"w.levels": torch.zeros(3, 4, dtype=torch.int32)}, r"w.levels, int32 \[3, 4\]"),
        ({"w.levels": torch.full((3, 4), torch.nan)}, "NaN or infinite values in w.levels"),
        ({"b": torch.full((5,), torch.inf)}, "NaN or infinite values in b"),
        ({"w": torch.zeros(3, 35)}, "unexpected: w;"),
        ({"x.levels": torch.zeros(3, 4)}, "unexpected: x.levels"),
    ],
)
def test_wrong_lengths_are_refused(file: Path, tensors: dict[str, Tensor], message: str) -> None:
    rewrite(file, tensors)
    with pytest.raises(UserError, match=message):
        read_quantized(file)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        ({"w": {"shape": [3, 35], "bits": 0}}, r"0 for `packed\.w\.bits`"),
        ({"w": {"shape": [3, 35], "bits": 17}}, r"17 for `packed\.w\.bits`"),
        ({"w": {"shape": [3, 35], "bits": "2"}}, r"'2' for `packed\.w\.bits`"),
        ({"w": {"shape": [3, 35], "bits": True}}, r"packed\.w\.bits"),
        ({"w": {"shape": [-3, -35], "bits": 2}}, r"-3 for `packed\.w\.shape\.0`"),
        ({"w": {"shape": [35, 3], "bits": 2}}, r"metadata about w \[35, 3\]"),
        ({"w": {"shape": [3, 35], "bits": 2}, "x": {"shape": [3], "bits": 2}}, r"about x \[3\]"),
        ([], r"`packed`"),
        ({}, "missing: w; unexpected: w.indices, w.levels"),
    ],
)
def test_impossible_metadata_are_refused(file: Path, packed: Any, message: str) -> None:
    rewrite(file, packed=packed)
    with pytest.raises(UserError, match=message):
        read_quantized(file)


def test_tampering_is_refused(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="SHA-256"):
        read_quantized(file)


def test_changed_metadata_are_refused(file: Path) -> None:
    rewrite(file, sign=False, method={"levels": "uniform"})
    with pytest.raises(UserError, match="SHA-256"):
        read_quantized(file)


@pytest.mark.parametrize("share", [0, 0.3, 0.99])
def test_truncation_is_refused(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"2bit\.safetensors.*whole safetensors file"):
        read_quantized(file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"w": torch.zeros(3)}, path)
    with pytest.raises(UserError, match="written by `quantize`"):
        read_quantized(path)


def test_the_documented_example(tmp_path: Path) -> None:
    path = tmp_path / "example.safetensors"
    book = Codebook(torch.arange(8.0)[None], torch.tensor([[5, 1, 7]], dtype=torch.int32), (3,))
    write(path, {"P": book})
    with safe_open(path, framework="pt") as file:
        assert bytes(file.get_tensor("P.indices").tolist()) == bytes.fromhex("CD01")
