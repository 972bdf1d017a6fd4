"""Entropy-coded indices: exact, as small as their entropy, and as docs/format.md says."""

import sys
from collections.abc import Callable
from math import log2
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import flowquant
from flowquant.quantization.codebook import Codebook, effective_bits
from flowquant.quantization.coding import Coded, decode, encode
from flowquant.quantization.packed_file import PackedTensor, read_packed, write_quantized
from flowquant.quantization.packed_header import PACKED
from flowquant.runtime.errors import UserError
from flowquant.runtime.tensors import read_tensors, write_tensors
from flowquant.stages.inspect import inspect

METHOD = {"levels": "lloyd", "granularity": "row", "scope": "all", "coding": "ans"}


def skewed(count: int, levels: int, seed: int = 0) -> Tensor:
    """Indices of which some are much rarer than others."""
    draws = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    return (draws.abs() * levels / 3).int().clamp(max=levels - 1)


def as_documented(coded: Coded, count: int) -> tuple[list[int], int, list[int]]:
    """Indices by the rules of docs/format.md, in Python's integers; what is left of the words."""
    shares = [256 * (less_one + 1) for less_one in coded.frequencies.tolist()]
    stream = bytes(coded.stream.tolist())
    words = [int.from_bytes(stream[at : at + 4], "little") for at in range(0, len(stream), 4)]
    state = words.pop()
    if words:
        state = state << 32 | words.pop()
    found = []
    for _ in range(count):
        below, quantile, index = 0, state % 2**24, 0
        while quantile >= below + shares[index]:
            below, index = below + shares[index], index + 1
        found.append(index)
        state = (state >> 24) * shares[index] + quantile - below
        if state < 2**32 and words:
            state = state << 32 | words.pop()
    return found, state, words


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 5, 8, 13, 32, 64, 128, 200, 256, 4096])
@pytest.mark.parametrize("count", [0, 1, 2, 1000, 4567])
def test_what_is_coded_comes_back(levels: int, count: int) -> None:
    indices = skewed(count, levels, seed=count)
    coded = encode(indices, levels)
    assert decode(coded, count).equal(indices)
    assert as_documented(coded, count) == (indices.tolist(), 1, [])
    assert int((coded.frequencies.int() + 1).sum()) == 2**16


@pytest.mark.parametrize("symbol", [0, 2, 4])
def test_one_symbol_alone_takes_next_to_nothing(symbol: int) -> None:
    indices = torch.full((100_000,), symbol, dtype=torch.int32)
    coded = encode(indices, 5)
    assert coded.bytes <= 10 + 12
    assert decode(coded, 100_000).equal(indices)


@pytest.mark.parametrize("levels", [2, 4, 13, 256])
def test_it_takes_the_entropy_of_the_indices(levels: int) -> None:
    indices = skewed(200_000, levels)
    shares = (torch.bincount(indices) / len(indices)).tolist()
    entropy = -sum(share * log2(share) for share in shares if share)
    coded = encode(indices, levels)
    assert entropy * len(indices) <= 8 * coded.stream.numel()
    # The table's own rounding costs most where shares are small.
    assert 8 * coded.stream.numel() <= 1.001 * entropy * len(indices) + 64
    assert coded.frequencies.numel() == levels
    assert encode(indices, levels).stream.equal(coded.stream)


def coded_file(
    path: Path, content: Codebook | PackedTensor
) -> tuple[PackedTensor, dict[str, object]]:
    metadata = {"method": METHOD, "bits": None}
    write_quantized(path, {"w": content, "b": torch.zeros(3)}, metadata)
    found, read = read_packed(path)
    assert isinstance(found["w"], PackedTensor)
    return found["w"], read


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("unused", [0, 1])
def test_a_coded_file_holds_the_same_codebook(bits: int, unused: int, tmp_path: Path) -> None:
    levels = max(2, 2**bits - unused)
    indices = skewed(60_000, levels).view(6, -1)
    # One bit of a coin's two sides has nothing to save: let one side be rare.
    indices = indices * (torch.rand(indices.shape) < 0.1) if levels == 2 else indices
    book = Codebook(torch.randn(6, levels), indices.int(), (6, 10_000), "ans")
    path = tmp_path / "coded.safetensors"
    found, metadata = coded_file(path, book)
    plain = PackedTensor.of(book)
    assert found.packed.equal(plain.packed)
    assert found.levels.equal(book.levels)
    assert (found.bits, found.shape, found.coding) == (plain.bits, plain.shape, "ans")
    tensors, _ = read_tensors(path)
    assert set(tensors) == {"w.coded", "w.frequencies", "w.levels", "b"}
    stored = 8 * sum(t.numel() * t.element_size() for t in tensors.values())
    assert metadata["version"] == 2
    assert metadata["effective_bits"] == effective_bits({"w": book, "b": tensors["b"]})
    assert metadata["effective_bits"] == stored / 60_003
    assert stored < plain.packed.numel() * 8 + 32 * 6 * levels + 96
    # The bytes are the same on each writing, and from what was read.
    again = tmp_path / "again.safetensors"
    coded_file(again, found)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("bits", [2, 13])
def test_what_does_not_shrink_stays_packed_and_an_old_file(bits: int, tmp_path: Path) -> None:
    indices = torch.arange(2**bits).repeat(3).int()[None]
    book = Codebook(torch.arange(2.0**bits)[None], indices, (indices.numel(),), "ans")
    path = tmp_path / "packed.safetensors"
    _, metadata = coded_file(path, book)
    assert metadata["version"] == 1
    assert metadata["packed"] == {"w": {"shape": [indices.numel()], "bits": bits}}
    assert book.stored_bits == 8 * (PackedTensor.of(book).packed.numel() + 4 * 2**bits)


def test_any_module_is_saved_coded_and_loads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Linear(256, 256)
    paths = [tmp_path / "plain.safetensors", tmp_path / "coded.safetensors"]
    module.weight.data.normal_()
    plain, coded = (flowquant.quantize(module, bits=3, coding=coding) for coding in ("none", "ans"))
    for path, quantized in zip(paths, (plain, coded), strict=True):
        flowquant.save(quantized, path)
    sizes = [path.stat().st_size for path in paths]
    assert sizes[1] < 0.97 * sizes[0]
    for packed in (False, True):
        found = flowquant.load(paths[1], into=nn.Linear(256, 256), packed=packed)
        x = torch.randn(4, 256)
        torch.testing.assert_close(found(x), plain(x))
    flowquant.save(flowquant.load(paths[1], into=nn.Linear(256, 256)), tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == paths[1].read_bytes()


def test_inspect_says_how_much_coding_saves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    indices = skewed(60_000, 4).view(6, -1)
    book = Codebook(torch.randn(6, 4), indices, (6, 10_000), "ans")
    coded_file(tmp_path / "coded.safetensors", book)
    inspect(tmp_path / "coded.safetensors")
    header, row, plain = capsys.readouterr().out.splitlines()[:3]
    assert book.coded is not None
    shares = ((book.coded.frequencies.double() + 1) / 2**16).tolist()
    entropy = -sum(share * log2(share) for share in shares)
    said = dict(zip(header.replace("squared error", "error").split(), row.split(), strict=True))
    assert said["entropy"] == f"{entropy:.3f}"
    assert said["coded"] == f"{8 * book.coded.bytes / 60_000:.3f}"
    assert said["bytes"] == f"{book.coded.bytes + 96:,}"
    assert plain.split()[3:5] == ["–", "–"]


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("frequencies", lambda t: (t.int() + 1).to(torch.uint16), "a table .* that is none in w"),
        ("frequencies", lambda t: t[:-1].clone(), "frequencies of other than 4 levels in w"),
        ("coded", lambda t: t[:-1].clone(), "half a word in w"),
        ("coded", lambda t: t[:-4].clone(), "another number of indices in w"),
        ("coded", lambda t: torch.cat([t[:4], t]), "another number of indices in w"),
        ("coded", lambda t: torch.cat([t, 0 * t[:4]]), "in w; expected 60000 coded indices"),
        ("coded", lambda t: t[:0].clone(), "missing: w.coded"),
        ("levels", lambda t: torch.zeros(6, 3), "frequencies of other than 3 levels in w"),
    ],
)
def test_a_damaged_stream_is_one_message(
    part: str, change: Callable[[Tensor], Tensor], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "coded.safetensors"
    book = Codebook(torch.randn(6, 4), skewed(60_000, 4).view(6, -1), (6, 10_000), "ans")
    coded_file(path, book)
    tensors, metadata = read_tensors(path)
    held = {n: change(t) if n == f"w.{part}" else t.clone() for n, t in tensors.items()}
    write_tensors(path, {n: t for n, t in held.items() if t.numel()}, metadata, PACKED)
    with pytest.raises(UserError, match=message):
        read_packed(path)


def test_without_the_coder_the_requirement_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "coded.safetensors"
    book = Codebook(torch.randn(6, 4), skewed(60_000, 4).view(6, -1), (6, 10_000), "ans")
    coded_file(path, book)
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(UserError, match=r"no package constriction.*envs/requirements\.txt"):
        read_packed(path)
